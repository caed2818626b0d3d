"""What happens to a supervisor of services while it does something else."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import ctypes, os, signal, sys, threading
from sysenv_ns.within import logs
from sysenv_ns.within.events import Events
logs.DIRECTORY = sys.argv[1]
events = Events(logs.Log("x.service", "x"), "")
reading, writing = os.pipe()
libc = ctypes.CDLL(None, use_errno=True)
for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    threading.Timer(0.2, os.write, (writing, b"x")).start()
    buffer = ctypes.create_string_buffer(1)
    # Not os.read, which Python itself begins again; it does not do so with os.rename.
    assert libc.read(reading, buffer, 1) == 1, (number, os.strerror(ctypes.get_errno()))
assert events.told_to_stop
"""


def test_a_system_call_that_waits_goes_on_after_a_signal(tmp_path: object) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)], check=False, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")

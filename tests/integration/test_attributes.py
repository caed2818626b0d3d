"""The extended attributes of the host's files, which environments have as well."""

from __future__ import annotations

import os
import struct

import pytest

from .machines import Machine

# linux/posix_acl_xattr.h: version 2; owner rw-, users 33 and 300000 r--, group r--, group 44 rw-, mask rw-, others r-x
_ENTRIES = ((1, 6, -1), (2, 4, 33), (2, 4, 300000), (4, 4, -1), (8, 6, 44), (0x10, 6, -1), (0x20, 5, -1))
_LIST = struct.pack("=I", 2) + b"".join(struct.pack("=HHi", *entry) for entry in _ENTRIES)
_LOOK = """
import os, sys
for path in sys.argv[1:]:
    for name in sorted(os.listxattr(path)):
        print(path, name, os.getxattr(path, name).hex())
"""


@pytest.mark.modes("full", "single")
def test_attributes_of_host_files(new_machine: Machine) -> None:
    """user.*, access control lists and capabilities, of copied files, stubs and directories."""
    root, tool = new_machine.root, new_machine.tool
    places = ("etc/attributes", "opt/large", "opt/directory", "usr/local/bin/small")
    for path in places:
        if path.endswith("directory"):
            (root / path).mkdir(0o750)
            os.setxattr(root / path, "system.posix_acl_default", _LIST)
        else:
            (root / path).write_bytes(b"x" * (9000 if "large" in path else 10))
            (root / path).chmod(0o640)
        os.setxattr(root / path, "system.posix_acl_access", _LIST)
        os.setxattr(root / path, "user.own", b"value")
        os.setxattr(root / path, "user.overlay.opaque", b"y")  # would take effect
    for path in ("opt/large", "usr/local/bin/small"):
        (root / path).chmod(0o755)
        new_machine.sh("setcap cap_net_raw,cap_sys_admin+ep /$1", path)
    (root / "opt/directory/inner").write_text("of the host")
    environment = new_machine.create()
    script = f"python3 -c '{_LOOK}' " + " ".join(f"/{path}" for path in places)
    known = environment.sh(script)
    lists = [line.split() for line in known.splitlines() if "posix_acl" in line]
    assert known.count("user.own 76616c7565") == len(places)
    assert "user.overlay" not in known
    assert len(lists) == len(places) + 1
    for _, _, value in lists:
        entries = list(struct.iter_unpack("=HHi", bytes.fromhex(value)[4:]))
        named = [entry for entry in entries if entry[0] in (2, 8)]
        assert [entry[2] for entry in named] == ([33, 44] if tool.mode == "full" else []), entries
    if tool.mode == "full":
        assert environment.sh("cd /opt/directory; touch new; stat -c %a new inner").split() == ["664", "664"]
    assert environment.sh("getcap /opt/large /usr/local/bin/small").splitlines() == [
        "/opt/large cap_net_raw,cap_sys_admin=ep",
        "/usr/local/bin/small cap_net_raw,cap_sys_admin=ep",
    ]
    # When it is copied up
    assert environment.sh("touch /opt/large; getcap /opt/large; getfattr --only-values -n user.own /opt/large") == (
        "/opt/large cap_net_raw,cap_sys_admin=ep\nvalue"
    )


@pytest.mark.modes("full")
def test_a_capability_of_a_host_file_takes_effect(new_machine: Machine) -> None:
    """In the namespace of the environment: with files of its ids, and with no others."""
    new_machine.sh("cp /bin/chown /usr/local/bin/own; setcap cap_chown+ep /usr/local/bin/own")
    environment = new_machine.create()
    environment.me(
        """
        cd $(mktemp -d); touch file
        ! chown 33 file 2>/dev/null
        own 33 file; test "$(stat -c %u file)" = 33
        ! own 0 /proc/version 2>/dev/null
        rm file; rmdir $PWD
        """
    )

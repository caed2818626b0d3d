"""PURE: a file's capabilities, from the attribute to words; capabilities(7), linux/capability.h of Linux 6.18."""

from __future__ import annotations

import struct
from dataclasses import dataclass

ATTRIBUTE = "security.capability"
# By their numbers.
NAMES = (
    *("cap_chown", "cap_dac_override", "cap_dac_read_search", "cap_fowner", "cap_fsetid", "cap_kill", "cap_setgid"),
    *("cap_setuid", "cap_setpcap", "cap_linux_immutable", "cap_net_bind_service", "cap_net_broadcast"),
    *("cap_net_admin", "cap_net_raw", "cap_ipc_lock", "cap_ipc_owner", "cap_sys_module", "cap_sys_rawio"),
    *("cap_sys_chroot", "cap_sys_ptrace", "cap_sys_pacct", "cap_sys_admin", "cap_sys_boot", "cap_sys_nice"),
    *("cap_sys_resource", "cap_sys_time", "cap_sys_tty_config", "cap_mknod", "cap_lease", "cap_audit_write"),
    *("cap_audit_control", "cap_setfcap", "cap_mac_override", "cap_mac_admin", "cap_syslog", "cap_wake_alarm"),
    *("cap_block_suspend", "cap_audit_read", "cap_perfmon", "cap_bpf", "cap_checkpoint_restore"),
)

_EFFECTIVE = 0x000001  # VFS_CAP_FLAGS_EFFECTIVE
_FLAGS = 0xFFFFFF  # ~VFS_CAP_REVISION_MASK
_FORMS = {0x01: "<III", 0x02: "<IIIII", 0x03: "<IIIIII"}  # by VFS_CAP_REVISION
_ALL = (1 << len(NAMES)) - 1


@dataclass(frozen=True)
class FileCapabilities:
    """What a file gives to the process that executes it; sets are masks of bits by number."""

    permitted: int
    inheritable: int
    effective: bool
    rootid: int = 0  # counts in user namespaces alone whose root is that user; 0: in this one


def parse(value: bytes) -> FileCapabilities:
    """Read the attribute. Raises ValueError."""
    form = _FORMS.get(value[3]) if len(value) > 3 else None
    if form is None or len(value) != struct.calcsize(form):
        raise ValueError("no capabilities of a file")
    magic, *words = struct.unpack(form, value)
    rootid = words.pop() if len(words) == 5 else 0
    permitted = sum(word << 32 * place for place, word in enumerate(words[::2]))
    inheritable = sum(word << 32 * place for place, word in enumerate(words[1::2]))
    if magic & _FLAGS & ~_EFFECTIVE:
        raise ValueError("unknown flags of capabilities")
    return FileCapabilities(permitted, inheritable, bool(magic & _EFFECTIVE), rootid)


def text(found: FileCapabilities) -> str:
    """As getcap(8) writes it: `cap_chown,cap_setuid=ep`, and `[rootid=ID]` behind it; "=" for none at all."""
    effective = "e" if found.effective else ""
    both = found.permitted & found.inheritable
    groups = (
        (both, f"{effective}ip"),
        (found.permitted & ~both, f"{effective}p"),
        (found.inheritable & ~both, f"{effective}i"),
    )
    clauses = [f"{_names(mask)}={flags}" for mask, flags in groups if mask]
    return " ".join([*(clauses or ["="]), *([f"[rootid={found.rootid}]"] if found.rootid else [])])


def _names(mask: int) -> str:
    """Numbers are those of capabilities that nobody had heard of yet."""
    numbers = [number for number in range(64) if mask >> number & 1]
    if mask & _ALL == _ALL:
        return ",".join(["all", *(str(number) for number in numbers[len(NAMES) :])])
    return ",".join(NAMES[number] if number < len(NAMES) else str(number) for number in numbers)

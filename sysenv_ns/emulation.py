"""The seccomp filter of the single id map: calls that need other ids succeed without doing anything.

The list is Charliecloud's (`ch-image --force=seccomp`), proven on the packages of many distributions.
"""

from __future__ import annotations

import ctypes
import os
import stat

from sysenv_ns.errors import SysenvError

_FAKED = (
    *("chown", "fchown", "lchown", "fchownat", "chown32", "fchown32", "lchown32"),
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups"),
    *("setuid32", "setgid32", "setreuid32", "setregid32", "setresuid32", "setresgid32"),
    *("setfsuid32", "setfsgid32", "setgroups32", "capset"),
)
_MKNOD = (("mknod", 1), ("mknodat", 2))  # and which argument is the mode
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)

# seccomp.h of libseccomp 2.5
_ACT_ALLOW = 0x7FFF0000
_ACT_ERRNO_0 = 0x00050000
_FLTATR_CTL_NNP = 3
_CMP_MASKED_EQ = 7
_NR_SCMP_ERROR = -1
_FAMILIES = (
    (0xC000003E, 0x40000003, 0x4000003E),  # x86_64, x86, x32
    (0xC00000B7, 0x40000028),  # aarch64, arm
    (0x80000016, 0x00000016),  # s390x, s390
    (0x80000015, 0x00000015),  # ppc64, ppc
)

HINT = "install libseccomp (package libseccomp2 or libseccomp)"


class _Compare(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


class Filter:
    """A compiled filter, not yet in force; `load` installs it on this process and all its descendants."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        except OSError as error:
            raise SysenvError("root emulation needs libseccomp.so.2, which cannot be loaded", HINT) from error
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._library.seccomp_arch_native.restype = ctypes.c_uint32
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(_ACT_ALLOW)))
        # Root of a user namespace may load a filter without no_new_privs, and so setuid programs keep working.
        self._check(self._library.seccomp_attr_set(self._context, _FLTATR_CTL_NNP, 0))
        self._add_architectures()
        for name in _FAKED:
            self._fake(name)
        for name, argument in _MKNOD:
            for kind in _DEVICES:
                self._fake(name, _Compare(argument, _CMP_MASKED_EQ, stat.S_IFMT(0xFFFF), kind))

    def _add_architectures(self) -> None:
        native = self._library.seccomp_arch_native()
        for family in _FAMILIES:
            if native in family[:1]:
                for architecture in family[1:]:
                    self._check(self._library.seccomp_arch_add(self._context, ctypes.c_uint32(architecture)))

    def _fake(self, name: str, *comparisons: _Compare) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number == _NR_SCMP_ERROR:  # unknown to this libseccomp on every architecture
            return
        add = self._library.seccomp_rule_add
        self._check(
            add(self._context, ctypes.c_uint32(_ACT_ERRNO_0), ctypes.c_int(number), len(comparisons), *comparisons)
        )

    def load(self) -> None:
        """Put the filter in force and prove that it works. Raises SysenvError."""
        self._check(self._library.seccomp_load(self._context))
        self._library.seccomp_release(self._context)
        try:
            os.setgroups([])  # denied in every single id map, so only the filter can make it succeed
        except OSError as error:
            raise SysenvError("the root emulation is loaded but has no effect", HINT) from error

    @staticmethod
    def _check(result: int) -> None:
        if result < 0:
            raise SysenvError(f"libseccomp failed: {os.strerror(-result)}", HINT)

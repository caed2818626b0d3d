"""The seccomp filter of a session: which system calls succeed without doing anything, which the supervisor answers.

The list of the former is Charliecloud's (`ch-image --force=seccomp`), proven with packages of many distributions,
except for capset: giving up capabilities needs no other ids, and the sandbox of a browser checks that they are gone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import syscalls
from sysenv_ns.kernel.duties import NOTHING_ELSE, Duties
from sysenv_ns.kernel.idmap import IdMap, Kind
from sysenv_ns.kernel.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sysenv_ns.kernel.answers import Calls

# In the single id map: calls that need ids which nobody has.
_FAKED = (
    *("chown", "fchown", "lchown", "fchownat", "chown32", "fchown32", "lchown32"),
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups"),
    *("setuid32", "setgid32", "setreuid32", "setregid32", "setresuid32", "setresgid32"),
    *("setfsuid32", "setfsgid32", "setgroups32"),
)
# In the single id map: access control lists name such ids.
_SETXATTR = ("setxattr", "lsetxattr", "fsetxattr")
# In both: a user namespace can have no device nodes. With the argument that is the mode.
_MKNOD = (("mknod", 1), ("mknodat", 2))
# In both: what an overlay cannot do with directories and files of its lower layers.
_NAMES = ("rename", "renameat", "renameat2", "link", "linkat")
# In both: whoever enters another root finds device nodes in it.
_ROOTS = ("chroot",)
# In both: what such a root is furnished with.
_MOUNTS = ("mount", "umount2", "fsopen", "open_tree")
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)

# seccomp.h of libseccomp 2.5
_ACT_ALLOW = 0x7FFF0000
_ACT_NOTIFY = 0x7FC00000
_ACT_ERRNO_0 = 0x00050000
_CMP_MASKED_EQ = 7
_NR_SCMP_ERROR = -1
_ARCH_X86_64, _ARCH_X32 = 0xC000003E, 0x4000003E
_FAMILIES = (
    (_ARCH_X86_64, 0x40000003, _ARCH_X32),  # x86_64, x86, x32
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


class Emulation:
    """The emulation of calls that a user namespace refuses; prepared on the host's side, loaded inside."""

    def __init__(self, id_map: IdMap, duties: Duties = NOTHING_ELSE, manager: bool = False) -> None:
        """In a user namespace with this id map. `manager`: for a service manager, see Filter."""
        self._kind = id_map.kind
        self._filter = Filter(id_map.kind, manager=manager)
        self.supervisor = Supervisor(id_map, self._filter.calls, duties)

    def load(self) -> None:
        """Load it for this process and all its descendants. Raises SysenvError."""
        self.supervisor.wait()
        try:
            self.supervisor.hand_over(self._filter.load())
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise SysenvError(f"the kernel refused the system call filter: {reason(error)}", HINT) from error
            # A container's manager supervises this process already, and the kernel allows one: devices are refused
            # here as it wants it, and what the single map needs is pretended.
            if self._kind == "single":
                Filter(self._kind, supervised=False).load()
        if self._kind == "single":
            _prove()


class Filter:
    """A compiled filter, not yet loaded. `calls` has the numbers of calls that it leaves to a supervisor.

    That of a service manager leaves it names alone: it binds device nodes where it cannot make them, and each service
    with mounts of its own enters another root.
    """

    def __init__(self, kind: Kind, supervised: bool = True, manager: bool = False) -> None:
        try:
            self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        except OSError as error:
            raise SysenvError("environments need libseccomp.so.2, which cannot be loaded", HINT) from error
        self._supervised = supervised
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._library.seccomp_arch_native.restype = ctypes.c_uint32
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(_ACT_ALLOW)))
        architectures = self._add_architectures()
        faked, setxattr = (_FAKED, _SETXATTR) if kind == "single" else ((), ())
        for name in faked:
            self._add(_ACT_ERRNO_0, name)
        mknod = [(name, argument) for name, argument in _MKNOD if (supervised and not manager) or kind == "single"]
        for name, argument in mknod:
            for device in _DEVICES:
                comparison = _Compare(argument, _CMP_MASKED_EQ, stat.S_IFMT(0xFFFF), device)
                self._add(_ACT_NOTIFY if supervised else _ACT_ERRNO_0, name, comparison)
        answered = (*setxattr, *_NAMES, *(() if manager else (*_ROOTS, *_MOUNTS)))
        for name in answered if supervised else ():
            self._add(_ACT_NOTIFY, name)
        names = (*answered, *(name for name, _ in mknod))
        self.calls = self._numbers(architectures, names) if supervised else {}

    def _add_architectures(self) -> tuple[int, ...]:
        native = self._library.seccomp_arch_native()
        family = next((family for family in _FAMILIES if native == family[0]), (native,))
        for architecture in family[1:]:
            self._check(self._library.seccomp_arch_add(self._context, ctypes.c_uint32(architecture)))
        return family

    def _add(self, action: int, name: str, *comparisons: _Compare) -> None:
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number == _NR_SCMP_ERROR:  # unknown to this libseccomp on every architecture
            return
        add = self._library.seccomp_rule_add
        self._check(add(self._context, ctypes.c_uint32(action), ctypes.c_int(number), len(comparisons), *comparisons))

    def _numbers(self, architectures: Iterable[int], names: Iterable[str]) -> Calls:
        resolve = self._library.seccomp_syscall_resolve_name_arch
        numbers = {
            (_ARCH_X86_64 if arch == _ARCH_X32 else arch, int(resolve(ctypes.c_uint32(arch), name.encode()))): name
            for arch in architectures
            for name in names
        }
        return {key: name for key, name in numbers.items() if key[1] >= 0}

    def load(self) -> int:
        """Load the filter; returns the listener for the supervisor, or 0. Raises SysenvError, OSError.

        Not seccomp_load(3): before libseccomp 2.6 it hides the reason of a failure, and a signal can interrupt a call
        that the supervisor has carried out (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19).
        """
        program = self._program()
        number = self._library.seccomp_syscall_resolve_name(b"seccomp")
        if not self._supervised:
            return syscalls.seccomp_set_filter(number, program, 0)
        listening = syscalls.SECCOMP_FILTER_FLAG_NEW_LISTENER
        try:
            flags = listening | syscalls.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            return syscalls.seccomp_set_filter(number, program, flags)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return syscalls.seccomp_set_filter(number, program, listening)

    def _program(self) -> bytes:
        descriptor = os.memfd_create("filter")
        self._check(self._library.seccomp_export_bpf(self._context, ctypes.c_int(descriptor)))
        self._library.seccomp_release(self._context)
        with open(descriptor, "rb") as stream:
            stream.seek(0)
            return stream.read()

    @staticmethod
    def _check(result: int) -> None:
        if result < 0:
            raise SysenvError(f"libseccomp failed: {os.strerror(-result)}", HINT)


def _prove() -> None:
    try:
        os.setgroups([])  # denied in every single id map, so only the filter can make it succeed
    except OSError as error:
        raise SysenvError("the root emulation is loaded but has no effect", HINT) from error

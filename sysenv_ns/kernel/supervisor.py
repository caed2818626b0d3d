"""The process that the kernel asks about system calls which a filter cannot decide alone, as the session sees it;
supervision.py has what it does.

It is beside the session, and asked while the calling thread waits (seccomp_unotify(2)). It stays on the host's side of
all namespaces, so it holds no mount and keeps no environment running, and it ends with the last process under the
filter. It acts for a caller with the caller's identity and capabilities, in the caller's root (caller.py). It also
syncs what the session changes (writeback.py), and makes the session's user namespace.
"""

from __future__ import annotations

import _socket  # only the C half: the other takes a start's time to import
import errno
import os
import struct

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import NoneType, suppress
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import children, outcome
from sysenv_ns.kernel.duties import Duties
from sysenv_ns.kernel.idmap import IdMap

if TYPE_CHECKING:
    from sysenv_ns.kernel.answers import Calls

OF_SESSIONS = ("mnt", "cgroup", "pid")  # namespaces of a session that need not be this process's
_ANSWER = 1 << 16  # bytes, more than any has
_MAKE_NAMESPACE = b"user namespace"  # the only message without a descriptor
_ENDED = "the system call supervisor has ended"


class Supervisor:
    """The process, waiting for the listener of a filter; without one it ends together with this object's process."""

    def __init__(self, id_map: IdMap, calls: Calls, duties: Duties) -> None:
        """It answers these calls, in a user namespace with this id map."""
        self._makes_namespace = id_map.kind == "full"
        self._socket, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)

        def serve() -> None:
            children.leave_session({theirs.fileno()}, "sysenv-ns-calls")
            if duties.look is not None:
                theirs.send(duties.look())
            from sysenv_ns.kernel import supervision  # in its process, while this one goes on

            supervision.serve(theirs, id_map, calls, duties)

        self._looks = duties.look is not None
        self._starter = children.start_detached(serve)
        theirs.close()

    def wait(self) -> None:
        """Wait until it has started, before anything depends on it. Raises SysenvError."""
        if children.reap(self._starter):
            raise SysenvError("the system call supervisor cannot be started", "end some of your processes")

    def dismiss(self) -> None:
        """Let it end, and leave no child behind: what this process becomes may wait for all. Raises SysenvError."""
        self._socket.close()
        self.wait()

    def looked(self) -> bytes | None:
        """What `look` has given, once; None without it. Raises SysenvError."""
        if not self._looks:
            return None
        self._looks = False
        try:
            found = self._socket.recv(_ANSWER)
        except OSError as error:
            raise self._ended(error) from error
        if not found:
            raise self._ended()
        return found

    def _ended(self, why: OSError | None = None) -> SysenvError:
        """What to raise where it does not answer. Raises SysenvError itself if it has never started."""
        self.wait()
        return SysenvError(f"{_ENDED}: {reason(why)}" if why else _ENDED, "try again")

    def make_namespace(self) -> None:
        """Let it make the user namespace of a session that starts; one with the single id map makes it itself.

        It takes as long as all mounts together, and is not waited for. Raises SysenvError.
        """
        if self._makes_namespace:
            try:
                self._socket.send(_MAKE_NAMESPACE)
            except OSError as error:
                raise self._ended(error) from error

    def made_namespace(self) -> int | None:
        """The descriptor of that namespace, if any. Raises SysenvError, OSError: why it could not be made."""
        if not self._makes_namespace:
            return None
        self.looked()
        report, ancillary, _, _ = self._socket.recvmsg(_ANSWER, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        if not report:
            raise self._ended()
        outcome.result(report, NoneType)
        if not ancillary:  # it has been dropped, unix(7)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        (descriptor,) = struct.unpack("i", ancillary[0][2])
        return int(descriptor)

    def hand_over(self, listener: int) -> None:
        """Let it answer calls at `listener`, which is closed here. Raises SysenvError if it has ended."""
        self.looked()  # the other end of what is closed before all has been read gets an error
        rights = struct.pack("i", listener)
        try:
            # So it knows the namespaces of the session, without holding them.
            self._socket.sendmsg(
                [" ".join(map(_inode, OF_SESSIONS)).encode()], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
            )
        except OSError as error:
            raise SysenvError(f"{_ENDED}: {reason(error)}", "try again") from error
        finally:
            self._socket.close()
            os.close(listener)


def _inode(kind: str) -> str:
    """Of a namespace of this process; "0" on a kernel that has none of this kind."""
    with suppress(FileNotFoundError):
        return str(os.stat(f"/proc/self/ns/{kind}").st_ino)
    return "0"

"""The command line's entry: `sysenv-ns` and `python -m sysenv_ns`."""

import _signal  # type: ignore[import-not-found]  # signal's built-in half: the other takes long enough to be interrupted
import gc
import os
import sys

_EXIT_UNEXPECTED = 70  # as in errors.py
_RESTRICTION = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"  # Ubuntu's kernels have it


def main() -> None:
    """Run the command line."""
    gc.disable()  # a start is over before anything is worth collecting
    _occupy_standard_descriptors()
    if os.path.exists(_RESTRICTION):
        with _Importing():
            from sysenv_ns import launcher
        launcher.go_on(sys.argv[1:])
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    status = None
    if verb in ("exec", "shell"):
        with _Importing():
            from sysenv_ns import quick
        status = quick.run(sys.argv[1:])
    elif verb in ("create", "list", "rebase"):
        with _Importing():
            from sysenv_ns import quick_verbs
        status = quick_verbs.run(sys.argv[1:])
    if status is None:
        gc.enable()
        with _Importing():
            from sysenv_ns import cli
        cli.main(prog_name="sysenv-ns")  # not "python -m sysenv_ns"
    raise SystemExit(status)


class _Importing:
    """Until the tool handles Ctrl-C itself, an interrupt ends the process without a traceback."""

    def __enter__(self) -> None:
        self.handler = _signal.getsignal(_signal.SIGINT)
        if self.handler is _signal.default_int_handler:  # not when the caller ignores it
            _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

    def __exit__(self, _: object, error: object, __: object) -> None:
        _signal.signal(_signal.SIGINT, self.handler)
        if isinstance(error, Exception):  # nothing is there that could tell it better
            os.write(2, f"sysenv-ns: this installation is broken: {error!a}\n".encode())
            raise SystemExit(_EXIT_UNEXPECTED) from None


def _occupy_standard_descriptors() -> None:
    """Descriptors that the caller has closed are closed for the command too, and not used by the tool meanwhile."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open("/", os.O_PATH | os.O_CLOEXEC)  # the lowest free number


if __name__ == "__main__":
    main()

"""The command line's entry: `sysenv-ns` and `python -m sysenv_ns`."""

import _signal  # type: ignore[import-not-found]  # signal's built-in half: the other takes long enough to be interrupted
import os


def main() -> None:
    """Run the command line. Until it can answer Ctrl-C itself, an interrupt ends the process without a traceback."""
    handler = _signal.getsignal(_signal.SIGINT)
    if handler is _signal.default_int_handler:  # not when the caller ignores it
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    _occupy_standard_descriptors()
    from sysenv_ns.cli import main as command_line

    _signal.signal(_signal.SIGINT, handler)
    command_line(prog_name="sysenv-ns")  # not "python -m sysenv_ns"


def _occupy_standard_descriptors() -> None:
    """What the caller has closed shall be closed for the command, and meanwhile be nothing of the tool's."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open("/", os.O_PATH | os.O_CLOEXEC)  # the lowest free number


if __name__ == "__main__":
    main()

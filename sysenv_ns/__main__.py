"""The command line's entry: `sysenv-ns` and `python -m sysenv_ns`."""

import signal


def main() -> None:
    """Run the command line. Until it can answer Ctrl-C itself, an interrupt ends the process without a traceback."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # not when the caller ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sysenv_ns.cli import main as command_line

    signal.signal(signal.SIGINT, handler)
    command_line(prog_name="sysenv-ns")  # not "python -m sysenv_ns"


if __name__ == "__main__":
    main()

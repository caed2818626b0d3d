"""The command line's entry: `sysenv-ns` and `python -m sysenv_ns`."""

import _signal  # type: ignore[import-not-found]  # signal's built-in half: the other takes long enough to be interrupted
import gc
import os
import sys

from sysenv_ns import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec as _Spec
    from importlib.machinery import SourceFileLoader as _Loader
else:  # importlib itself takes longer than all that is found by these
    _Spec, _Loader = type(__spec__), type(__spec__.loader)

_EXIT_UNEXPECTED = 70  # as in errors.py
_RESTRICTION = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"  # Ubuntu's kernels have it


def main() -> None:
    """Run the command line."""
    gc.disable()  # a start is over before anything is worth collecting
    sys.meta_path.insert(0, _Finder)
    _occupy_standard_descriptors()
    if os.path.exists(_RESTRICTION):
        with _Importing():
            from sysenv_ns import launcher, libraries

            libraries.find()  # which knows where this is installed
        launcher.go_on(sys.argv[1:])
    with _Importing():
        from sysenv_ns import quick
    status = quick.run(sys.argv[1:])
    if status is None:
        gc.enable()
        with _Importing():
            from sysenv_ns import libraries

            libraries.find()
            from sysenv_ns import cli
        cli.main(prog_name="sysenv-ns")  # not "python -m sysenv_ns"
    raise SystemExit(status)


class _Finder:
    """Finds this package's modules where they lie, and leaves all else to Python's finders.

    These ask each other first, and then look for files of five kinds: a tenth of the time that a start takes to import.
    """

    @staticmethod
    def find_spec(name: str, path: "Sequence[str] | None" = None, target: object = None) -> "_Spec | None":
        if path is None or not name.startswith("sysenv_ns."):
            return None
        place = f"{path[0]}/{name.rpartition('.')[2]}"
        is_package = os.path.isdir(place)
        file = f"{place}/__init__.py" if is_package else f"{place}.py"
        if not os.path.exists(file):
            return None
        found = _Spec(name, _Loader(name, file), origin=file, is_package=is_package)
        found.has_location = True
        if found.submodule_search_locations is not None:
            found.submodule_search_locations.append(place)
        return found


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

"""The shell scripts that run a program of an environment: their text, and how one is recognised. Writes none.

links.py has those that a user asked for, in the home; shims.py those of all programs, for PATH.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys

import sysenv_ns
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.files import reader

# The shortest way: without what -m sysenv_ns does, and, unless the package has moved, without looking for all else that
# is installed (-S), which libraries.py does when it is needed.
_START = """\
import sys
sys.path.append(sys.argv.pop(1))
try:
    from sysenv_ns.__main__ import main
except ModuleNotFoundError:
    import site; site.main()
    from sysenv_ns.__main__ import main
main()"""
_MARKER = "# Made by sysenv-ns: a program of the environment "
_MARKED = re.compile(rf"#!/bin/sh\n{re.escape(_MARKER)}([^ \n]+)\n".encode())
_MARKED_LIMIT = 4096  # bytes


def script(store: Store, environment: Environment, target: str, in_any: bool = False) -> bytes:
    """The shell script that runs a program of the environment, from the host or in the environment itself.

    `in_any`: in another environment it runs what has that path there.
    """
    outside = '[ -z "${SYSENV_NS-}" ]' if in_any else f'[ "${{SYSENV_NS-}}" != {environment.name} ]'
    # sys.executable and not a script found on some PATH: it is what runs now.
    python = [sys.executable, "-I", "-S", "-c", _START, os.path.dirname(*sysenv_ns.__path__)]
    tool = [*python, "exec", "--linked", environment.name, "--", target]
    lines = (
        "#!/bin/sh",
        f"{_MARKER}{environment.name}",
        f'{outside} || exec {shlex.quote(target)} "$@"',
        f"[ -x {shlex.quote(sys.executable)} ] || {{",
        f'    echo "${{0##*/}} is of the environment {environment.name}, and sysenv-ns is no longer where it was" >&2',
        '    echo "hint: install and link it again, or delete it: rm $0" >&2',
        "    exit 127",
        "}",
        f"export SYSENV_NS_HOME={shlex.quote(str(store.named))}",
        f'exec {shlex.join(tool)} "$@"',
    )
    return os.fsencode("".join(f"{line}\n" for line in lines))


def environment_of(path: str) -> str | None:
    """The environment of the wrapper at a path; None when there is no wrapper, or nothing that can be read."""
    with contextlib.suppress(OSError):
        with reader.stream(path) as stream:
            found = _MARKED.match(stream.read(_MARKED_LIMIT))
        return os.fsdecode(found[1]) if found else None
    return None

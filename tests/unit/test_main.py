"""The entry: nothing is imported before Ctrl-C is harmless."""

from __future__ import annotations

import subprocess
import sys

_NEW = """
import sys
before = set(sys.modules)
import sysenv_ns.__main__
print(*sorted(set(sys.modules) - before))
"""


def test_nothing_is_imported_that_could_be_interrupted() -> None:
    process = subprocess.run((sys.executable, "-I", "-c", _NEW), capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["gc", "sysenv_ns", "sysenv_ns.__main__"]

"""Runs scripts on minimal systems of other releases, made with debootstrap (helpers/on-release)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .support import ROOT_RUN, describe, ran

_ON_RELEASE = Path(__file__).parents[2] / "helpers" / "on-release"
_LIMIT = 1800  # seconds
# For the script: the ordinary user there gets subordinate ids.
_RANGE = "500000000-500065535"
UIDMAP = f"grep -q ^tester: /etc/subuid || usermod --add-subuids {_RANGE} --add-subgids {_RANGE} tester\n"


def run(release: str, script: str, *options: str) -> str:
    """What a script of root's says, which has to succeed; it begins in a copy of the checkout."""
    if not ROOT_RUN or shutil.which("debootstrap") is None:
        pytest.skip("making a system needs root and debootstrap")
    # There tests may be skipped for what is not installed, even if none may be on this machine.
    command = ["env", "--unset=SYSENV_MUST_WORK", str(_ON_RELEASE), *options, release, "sh", "-ec", script]
    result = ran(command, limit=_LIMIT)
    assert result.returncode == 0, describe(result)
    return result.stdout + result.stderr

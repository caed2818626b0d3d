"""The README's two commands on systems that have only Python and git, made with debootstrap (helpers/on-release).

No compiler, no question: there is no terminal, so a question would be a failure. The short instance of this is in every
run of the suite, which sets up a copy of the checkout.
"""

from __future__ import annotations

import pytest

from . import releases

# What of the system's own the first command may not touch: sizes, modes and times of all in these.
_FIRST = """\
state() { dpkg-query -W; find /usr /etc /opt /var/lib/dpkg /var/lib/apt -printf '%p %s %m %C@\\n' | sort; }
! command -v gcc cc
state >/root/before
{run} './helpers/sysenv-ns exec demo -- apt-get install -y hello </dev/null && ./helpers/sysenv-ns exec demo -- hello'
! command -v hello
state >/root/after
cmp /root/before /root/after
"""
_SECOND = "{run} './helpers/test -q tests/unit tests/cli tests/integration/test_core.py </dev/null'\n"
_AS_TESTER = "su tester -c"
_SUDO = "echo 'tester ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/tester\n"
# Of a container's image, as those of Docker are: lists are fetched by each who installs something.
_NO_LISTS = "rm -rf /var/lib/apt/lists/*\n"


def _run(release: str, script: str, *options: str) -> str:
    said = releases.run(release, script, *options)
    assert "hello" not in said or "Hello, world!" in said, said
    return said


@pytest.mark.matrix
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
@pytest.mark.parametrize("has", ["nothing", "sudo", "uidmap", "both", "root"])
def test_two_commands(release: str, has: str) -> None:
    packages = {"sudo": ["sudo"], "uidmap": ["uidmap"], "both": ["sudo", "uidmap"]}.get(has, [])
    options = ["--add", ",".join(packages)] if packages else []
    begin = (_SUDO if "sudo" in packages else "") + (releases.UIDMAP if "uidmap" in packages else "")
    script = begin + (_FIRST + _SECOND).replace("{run}", "sh -c" if has == "root" else _AS_TESTER)
    said = _run(release, script, *options)
    assert "Hello, world!" in said
    assert "python3-prctl" in said
    assert ("package uidmap" in said) == (has in ("nothing", "sudo"))


@pytest.mark.matrix
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_a_system_without_lists_of_packages(release: str) -> None:
    said = _run(release, _NO_LISTS + f"{_AS_TESTER} './helpers/sysenv-ns exec demo -- id -u'")
    assert "python3-prctl" in said


@pytest.mark.matrix
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_a_system_that_cannot_reach_any_archive(release: str) -> None:
    """Then the sentence says so, with a hint, and what the distribution had installed would have done."""
    offline = "unshare --net su tester -c './helpers/sysenv-ns --version'"
    _run(release, f'status=0; {offline} 2>said || status=$?; cat said; [ "$status" = 125 ] && grep "^hint: " said')
    said = _run(release, offline, "--add", "python3-click,python3-zstandard,python3-tomlkit,python3-prctl")
    assert "sysenv-ns 0" in said

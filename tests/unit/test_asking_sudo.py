"""What is known of sudo before it is used: a stand-in for it answers as sudo does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysenv_ns import sudo
from sysenv_ns.drivers import diagnosis
from sysenv_ns.drivers.diagnosis import Diagnosis
from sysenv_ns.errors import SysenvError
from sysenv_ns.verbs import doctor

_ASKS = 'case $1 in -n) echo "sudo: a password is required" >&2 ;; esac; exit 1'
_ASKS_IN_RUST = 'case $1 in -n) echo "sudo: interactive authentication is required" >&2 ;; esac; exit 1'
_REFUSES = 'echo "you is not allowed to run sudo on host." >&2; exit 1'
_LETS = "exit 0"
_ASKS_ONCE = 'case $1 in -n) echo "sudo: a password is required" >&2; exit 1 ;; -v) exit 0 ;; esac; exit 9'


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sudo"
    monkeypatch.setattr(sudo, "_program", lambda: str(path))
    return path


def _is(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_doctor_does_not_say_that_sudo_works_before_it_is_known(program: Path) -> None:
    for text, works, said in (
        (_LETS, True, "sudo  works"),
        (_ASKS, True, "sudo  asks for your password before it tells whether you may use it"),
        (_ASKS_IN_RUST, True, "sudo  asks for your password before it tells whether you may use it"),
        (_REFUSES, False, "sudo  no: sudo refuses: you is not allowed to run sudo on host."),
    ):
        _is(program, text)
        finding = diagnosis._try("sudo", sudo.check)
        assert finding.works is works
        assert doctor.text(Diagnosis((finding,), "root", None)).splitlines()[0] == said


@pytest.mark.parametrize(
    ("text", "lets"), [(_LETS, True), (_ASKS_ONCE, True), (_ASKS, False), (_ASKS_IN_RUST, False), (_REFUSES, False)]
)
def test_a_sudo_that_refuses_is_an_error_of_the_tool(program: Path, text: str, lets: bool) -> None:
    """So that shell and exec end with 125, not with sudo's own 1."""
    _is(program, text)
    if lets:
        sudo.authorize()
    else:
        with pytest.raises(SysenvError, match="sudo") as caught:
            sudo.authorize()
        assert "install" not in caught.value.hint

"""The sudo stand-in: a shell script, tried with stand-ins for the programs that it calls."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from sysenv_ns.host.standins import SUID_SETPRIV, additions

SCRIPT = additions(False, False, None)[-1].content

PROGRAMS = {
    "id": 'case "$1$2" in -u) echo 1000 ;; -g) echo 1001 ;; -un) echo you ;; -gpostgres) echo 26 ;; esac',
    "getent": """case $2 in
root) echo "root:x:0:0:root:/root:/bin/sh" ;;
postgres) echo "postgres:x:25:26::/tmp:/bin/sh" ;;
you) echo "you:x:1000:1001::/home/you:/bin/sh" ;;
*) exit 2 ;;
esac""",
    "setpriv": """while [ "$1" != -- ]; do printf '%s ' "$1" >&3; shift; done
shift
exec "$@" """,
}
TO_ROOT = "--reuid 0 --regid 0 --keep-groups"
TO_POSTGRES = "--reuid postgres --regid 26 --init-groups"


class Sudo:
    """Runs the script; `identity` is then what setpriv was asked for."""

    def __init__(self, directory: Path) -> None:
        for name, text in PROGRAMS.items():
            (directory / name).write_text(f"#!/bin/sh\n{text}\n")
            (directory / name).chmod(0o755)
        script = SCRIPT.replace(f"/{SUID_SETPRIV}", str(directory / "setpriv"))
        self._script = directory / "sudo"
        self._script.write_text(script.replace("\nPATH=", f"\nPATH={directory}:"))
        self._asked = directory / "asked"
        self._path = f"{directory}:{os.environ['PATH']}"
        self.identity = ""

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        with open(self._asked, "w+") as asked:
            result = subprocess.run(
                ["sh", "-c", 'exec 3>"$0"; exec sh "$@"', self._asked, self._script, *arguments],
                check=False,
                capture_output=True,
                text=True,
                env={"PATH": self._path, "HOME": "/home/you", "SHELL": "/bin/sh", **variables},
                stdin=subprocess.DEVNULL,
            )
            self.identity = asked.read().strip()
        return result


@pytest.fixture
def sudo(tmp_path: Path) -> Sudo:
    return Sudo(tmp_path)


def test_the_script_is_valid_shell() -> None:
    subprocess.run(["sh", "-n"], input=SCRIPT, text=True, check=True)


@pytest.mark.parametrize(
    ("options", "identity"),
    [
        ([], TO_ROOT),
        (["-u", "root"], TO_ROOT),
        (["-u", "postgres"], TO_POSTGRES),
        (["-upostgres"], TO_POSTGRES),
        (["--user=postgres"], TO_POSTGRES),
        (["--user", "postgres"], TO_POSTGRES),
        (["-n", "-E", "-H", "--"], TO_ROOT),
        (["-nE"], TO_ROOT),
        (["-Hu", "postgres"], TO_POSTGRES),
        (["-p", "prompt", "--preserve-env=PATH"], TO_ROOT),
        (["-k"], TO_ROOT),
        (["-g", "adm"], "--reuid you --regid adm --keep-groups"),
        (["-gadm"], "--reuid you --regid adm --keep-groups"),
        (["--group=adm", "-u", "root"], "--reuid 0 --regid adm --keep-groups"),
        (["-u", "postgres", "--group", "adm"], "--reuid postgres --regid adm --init-groups"),
    ],
)
def test_options(sudo: Sudo, options: list[str], identity: str) -> None:
    result = sudo(*options, "printf", "%s,", "a  b", "", "-u", "$HOME")
    assert (result.stdout, result.stderr, result.returncode) == ("a  b,,-u,$HOME,", "", 0)
    assert sudo.identity == identity


@pytest.mark.parametrize(
    ("options", "home"),
    [
        ([], "/root root root"),
        (["-u", "postgres"], "/tmp postgres postgres"),
        (["-E"], "/home/you  "),
        (["-E", "HOME=/x"], "/x  "),
    ],
)
def test_home_and_user(sudo: Sudo, options: list[str], home: str) -> None:
    assert sudo(*options, "sh", "-c", 'printf %s "$HOME $USER $LOGNAME"').stdout == home


def test_variables_before_the_command_are_set(sudo: Sudo) -> None:
    command = ("sh", "-c", 'printf %s "$A-$B-$1"', "sh", "C=3")
    assert sudo("A=1 2", "-n", "--", "B=2", *command).stdout == "1 2-2-C=3"


def test_the_caller_is_told(sudo: Sudo) -> None:
    result = sudo("sh", "-c", 'echo "$SUDO_UID $SUDO_GID $SUDO_USER"')
    assert result.stdout == "1000 1001 you\n"


@pytest.mark.parametrize("options", [["-s"], ["-i"], ["-s", "-u", "postgres"], ["-iu", "postgres"], ["--login"]])
@pytest.mark.parametrize(
    "command", [["printf", "%s,", "x"], ["printf", "%s,", "a  b", "*'"], ["sh", "-c", "printf x,"]]
)
def test_a_shell_runs_the_command_with_its_arguments_whole(
    sudo: Sudo, options: list[str], command: list[str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    getent = tmp_path / "getent"
    getent.write_text(getent.read_text().replace(":/root:", f":{home}:"))
    expected = "".join(f"{argument}," for argument in command[2:]) if command[0] == "printf" else "x,"
    result = sudo(*options, *command)
    assert (result.stdout, result.stderr) == (expected, "")


@pytest.mark.parametrize("options", [["-l"], ["-v"], ["-k"], ["-V"], ["--version"]])
def test_questions_need_no_command(sudo: Sudo, options: list[str]) -> None:
    result = sudo(*options)
    assert (result.returncode, result.stderr, sudo.identity) == (0, "", "")


@pytest.mark.parametrize(
    "arguments", [[], ["-u"], ["-u", "nobody-here", "true"], ["--no-such-option", "true"], ["-E"], ["A=1"]]
)
def test_wrong_use_fails_and_runs_nothing(sudo: Sudo, arguments: list[str]) -> None:
    result = sudo(*arguments)
    assert (result.returncode, result.stdout, sudo.identity) == (1, "", "")
    assert result.stderr


def test_the_exit_status_is_the_commands(sudo: Sudo) -> None:
    assert sudo("sh", "-c", "exit 42").returncode == 42

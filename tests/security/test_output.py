"""Names and texts of an environment do nothing to the terminal of who looks at it, whatever the verb."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.support import Environment, describe, finish, line, refused, succeeded, wait_for
from integration.terminals import spawn

pytestmark = pytest.mark.modes("full")

_FORGED = "FORGED"
# What moves, colours, hides, reorders, and bytes that are no text; a newline after which comes a line of its own.
_EVIL = b"e\x1b[31m\x1b]0;t\x07\xc2\x9b2J\x7f\xe2\x80\xae\xe2\x80\x8b\xe2\x80\xa8\xff\r\x08\n" + _FORGED.encode()
_ON_A_LINE = _EVIL.replace(b"\n", b"").replace(b"\xff", b"").replace(b"\r", b"")

# The tool's own: colours, what a progress bar needs, and the line's end that a terminal makes of a newline.
_OWN = re.compile(r"\x1b\[(?:0|1|3[1-6])m|\r(?=Reading |Exporting |Rebasing )|\r\x1b\[K|\r\n")

_MAKE = r"""
evil=$1 line=$2
mkdir -p "/opt/$evil/$evil"
echo x > "/etc/$evil"; echo x > "/opt/$evil/$evil/$evil"; chmod 4755 "/etc/$evil"; ln -s "$evil" "/etc/link-$evil"
printf '%s\n' "$evil" >> /etc/issue
printf '#!/bin/sh\n' > "/usr/local/bin/$evil"; chmod 755 "/usr/local/bin/$evil"
printf '\nPackage: %s\nStatus: install ok installed\nArchitecture: all\nVersion: 1%s\nMaintainer: x\nDescription: x\n' \
    "$line" "$line" >> /var/lib/dpkg/status
printf '\nPackage: harmless\nStatus: install ok installed\nArchitecture: all\nVersion: 1%s\nMaintainer: x\n' \
    "$line" >> /var/lib/dpkg/status
printf '/.\n/etc/%s\n' "$line" > /var/lib/dpkg/info/harmless.list; echo x > "/etc/$line"
printf 'Types: deb\nURIs: file:/%s\nSuites: x\nComponents: x\n' "$line" > /etc/apt/sources.list.d/evil.sources
"""
# One whose arguments are evil, and one that has none: then its name is shown.
_RUN = r"""
mkfifo /run/evil
cp /bin/cat "/run/$1"
( exec -a "" "/run/$1" < /run/evil ) &
( exec -a "$2" sleep 300 ) &
echo ready
exec 3> /run/evil
wait
"""


@pytest.fixture(scope="module")
def evil(shared_environment: Environment) -> Iterator[Environment]:
    """An environment with evil files, packages and processes, for tests that look at it."""
    with _made_evil(shared_environment):
        yield shared_environment


@contextlib.contextmanager
def _made_evil(environment: Environment) -> Iterator[None]:
    """Put evil files and packages into an environment, and let evil processes run there."""
    succeeded(environment.exec("bash", "-ec", _MAKE, "bash", _EVIL, _ON_A_LINE))
    arguments = (b"\x1b[31m\n" + _FORGED.encode(), _EVIL)
    process = environment.tool.start("exec", environment.name, "--", "bash", "-ec", _RUN, "bash", *arguments)
    assert line(process) == "ready\n"
    try:
        yield
    finally:
        succeeded(environment.tool.run("stop", "--time", "1", environment.name))
        finish(process)


def _seen(environment: Environment, *arguments: str, program: str = "") -> str:
    """What a terminal gets from the tool, or from a program that runs it, which is checked."""
    command = program or str(environment.tool.launcher)
    terminal = spawn(environment, command, *arguments, variables={"PAGER": "cat"})
    output = str(terminal.read())  # decoding is strict
    terminal.close()
    assert terminal.exitstatus not in (70, None), output
    assert "Traceback" not in output
    left = _OWN.sub(lambda found: "\n" if found[0] == "\r\n" else "", output)
    strange = sorted({letter for letter in left if not (letter.isprintable() or letter in "\n\t")})
    assert strange == [], left
    assert not [line for line in left.split("\n") if re.match(rf" *{_FORGED}", line)], left
    return left


def test_status_and_list(evil: Environment) -> None:
    text = _seen(evil, "status", evil.name)
    processes = [line for line in text.splitlines() if line.startswith("process:")]
    assert len(processes) >= 3
    assert [line for line in processes if "\\x1b[31m" in line and "\\u202e" in line]
    assert [line for line in processes if line.endswith('"')]
    assert "running (" in _seen(evil, "list")
    for verb in ("status", "list"):
        data = _seen(evil, verb, *([evil.name] if verb == "status" else []), "--json")
        assert data.isascii()
        json.loads(data)


def test_diff(evil: Environment) -> None:
    text = _seen(evil, "diff", evil.name)
    assert "harmless" in text
    assert "\\x1b[31m" in text  # of packages
    assert "\\033[31m" in text  # of paths
    for options in (["--packages"], ["--files"], ["--all"], ["--files", "--all"], ["--json"]):
        _seen(evil, "diff", *options, evil.name)
    patch = _seen(evil, "diff", evil.name, "--", "/etc/issue")
    assert "\n+e\\x1b[31m" in patch
    _seen(evil, "diff", evil.name, "--", "/etc")
    assert "\x1b[31m" in succeeded(evil.tool.run("diff", evil.name, "--", "/etc/issue")).stdout
    listed = succeeded(evil.tool.run("diff", evil.name)).stdout
    assert all(letter.isprintable() or letter == "\n" for letter in listed)
    json.loads(succeeded(evil.tool.run("diff", "--json", evil.name)).stdout)


def test_which_and_link(evil: Environment) -> None:
    """Scripts get the path as it is, a terminal what can be seen of it."""
    words = [str(evil.tool.launcher), "which", evil.name]
    variables, become = evil.tool.variables(), evil.tool.account.become()
    command: list[str | bytes] = [*words, _EVIL]
    exact = subprocess.run(command, capture_output=True, check=True, env=variables, cwd="/", timeout=60, **become)
    assert exact.stdout == b"/usr/local/bin/" + _EVIL + b"\n"
    shown = _seen(evil, "-c", f"exec {shlex.join(words)} $'{_escaped(_EVIL)}'", program="bash")
    assert "\\x1b[31m" in shown
    for arguments in (("link", evil.name, _EVIL), ("unlink", evil.name, _EVIL), ("snapshot", evil.name, _EVIL)):
        result = evil.tool.run(*arguments)
        assert all(letter.isprintable() or letter == "\n" for letter in result.stdout + result.stderr), describe(result)
    assert "not found" in _seen(evil, "which", evil.name, "\x1b[31mabsent\u202e")


def _escaped(value: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("history",),
        ("freeze",),
        ("freeze", "--exact"),
        ("freeze", "--json"),
        ("apply", "--dry-run"),
        ("apply", "--dry-run", "--files"),
        ("apply", "--dry-run", "--packages"),
        ("rebase", "--dry-run"),
        ("rebase", "--dry-run", "--assume-current"),
        ("remove", "--yes"),
        ("export", "/tmp/sysenv-evil.tar"),
        ("rollback", "\x1b[2J"),
        ("clone", "\x1b[2J"),
        ("snapshot", "--delete", "\x1b[2J\nFORGED"),
    ],
)
def test_what_else_looks_at_it(evil: Environment, arguments: tuple[str, ...]) -> None:
    verb, *rest = arguments
    options = [word for word in rest if word.startswith("-")]
    words = [word for word in rest if not word.startswith("-")]
    if verb == "clone":
        words = [evil.name, *words]
        _seen(evil, verb, *words)
    else:
        _seen(evil, verb, *options, evil.name, *words)


def test_who_is_running(evil: Environment) -> None:
    _seen(evil, "rebase", evil.name, "--assume-current")
    result = evil.tool.run("remove", "--purge", evil.name)
    refused(result, 1, "is running", "\\x1b[31m")
    assert len(result.stderr.splitlines()) == 2


def test_usage_errors(evil: Environment) -> None:
    for arguments in (("\x1b[2J",), ("list", "\x1b[2J\u202e"), ("--\x1b[2J",), ("create", "a", "--driver", "\x1b[2J")):
        _seen(evil, *arguments)


def test_what_sync_shows(evil: Environment, shared: Path) -> None:
    directory = shared / "evil"
    directory.mkdir(mode=0o755)
    text = json.dumps(os.fsdecode(_EVIL.replace(b"\xff", b"")))  # as TOML has it
    path = json.dumps(f"/etc/{_EVIL.decode(errors='ignore')}")
    file = directory / "sysenv.toml"
    raw = "raw \u202e\u200b\u2066"  # TOML allows it
    file.write_text(
        f"name = 'other'\n[files]\n{path} = {text}\n'/etc/raw' = '{raw}'\n"
        f"[repositories]\n'evil.list' = {text}\n[[scripts]]\nname = {text}\nrun = {text}\n",
        encoding="utf-8",
    )
    shown = _seen(evil, "sync", evil.name, "--check", str(file))
    assert "\\x1b[31m" in shown
    assert "raw \\u202e\\u200b\\u2066" in shown
    _seen(evil, "sync", evil.name, "--check", "--json", str(file))
    (directory / "other.toml").write_text('"\\u001b[2J\\u202e" = "\\u001b[2J"\n')
    assert "\\x1b[2J" in _seen(evil, "sync", evil.name, "--check", str(directory / "other.toml"))
    (directory / "broken.toml").write_text("a = \x1b[2J\u202e\n")
    _seen(evil, "sync", evil.name, "--check", str(directory / "broken.toml"))


def test_operations(evil: Environment) -> None:
    assert "+ " in _seen(evil, "-v", "exec", "--ephemeral", "--", "true")


def test_a_manifest_shows_what_cannot_be_seen(evil: Environment) -> None:
    """In a file too, whose reader may agree to it later; each comment is one line."""
    text = succeeded(evil.tool.run("freeze", evil.name)).stdout
    assert all(letter.isprintable() or letter in "\n\t" for letter in text)
    assert not [line for line in text.splitlines() if line.startswith(_FORGED)]


def test_stop(new_environment: Environment) -> None:
    """One of its own, as it ends what the others look at."""
    evil = new_environment
    with _made_evil(evil):
        text = _seen(evil, "stop", "--time", "2", evil.name)
        assert [line for line in text.splitlines() if line.startswith("sysenv-ns: ended ") and "\\x1b[31m" in line]
        wait_for(lambda: not evil.tool.status(evil.name)["processes"])
        for arguments in (("apply", "--dry-run"), ("rebase", "--dry-run"), ("history",)):
            _seen(evil, *arguments, evil.name)

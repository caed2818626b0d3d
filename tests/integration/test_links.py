"""which, link and unlink: programs of an environment as commands of the host."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from .support import Environment, Result, Tool, describe, end, ran, refused, sleeper, succeeded

_MAKE = r"""
cat > /usr/local/bin/greet <<'END'
#!/bin/sh
echo "$SYSENV_NS $(id -u) $HOME $(cat) $*"
exit 3
END
chmod 755 /usr/local/bin/greet
ln -s ../local/bin/greet /usr/bin/hello-there
"""
_ENTRIES = r"""
mkdir -p /usr/share/applications /usr/share/pixmaps /usr/share/icons/hicolor/48x48/apps /usr/share/icons/hicolor/evil
cd /usr/share
entry() { printf '[Desktop Entry]\nType=Application\nName=%s\nDBusActivatable=true\nIcon=%s\nExec=%s\n' "$@"; }
entry Greeter greeter '/usr/bin/hello-there --to %u' > applications/greeter.desktop
entry Other other /usr/bin/other > applications/other.desktop
entry Thief thief 'greet' > applications/thief.desktop
entry Climber ../../climber 'greet' > applications/climber.desktop
ln -s "$1/secret" applications/linked.desktop
mkfifo applications/waiting.desktop
printf PNG > icons/hicolor/48x48/apps/greeter.png
printf SVG > pixmaps/greeter.svg
ln -s "$1/secret" pixmaps/thief.png
printf BAD > icons/hicolor/evil/climber.png
"""


@pytest.fixture
def greeter(environment: Environment) -> Iterator[Environment]:
    """An environment with the command `greet`, whose user has an empty home."""
    tool = environment.tool
    home = tool.account.home / f"home-of-{environment.name}"
    home.mkdir(mode=0o755)
    os.chown(home, tool.account.uid, tool.account.gid)
    greeter = replace(tool, account=replace(tool.account, home=home)).environment(environment.name)
    greeter.sh(_MAKE)
    yield greeter
    shutil.rmtree(home)


def _bin(tool: Tool) -> Path:
    return tool.account.home / ".local" / "bin"


def _run(tool: Tool, path: Path | str, *arguments: str, stdin: str = "", **variables: str) -> Result:
    """Run a program of the host as the user, whose variables do not name the store."""
    kept = {name: value for name, value in tool.variables().items() if name != "SYSENV_NS_HOME"}
    return ran([*tool.beginning, str(path), *arguments], stdin, cwd=tool.account.home, env=kept | variables)


@pytest.mark.modes("full", more=("single", "root"))
def test_which(greeter: Environment) -> None:
    """Of the environment or of the host, whether it runs or not; nothing is left running."""
    tool, name = greeter.tool, greeter.name
    session = sleeper(greeter)
    for _ in range(2):
        assert succeeded(tool.run("which", name, "greet")).stdout == "/usr/local/bin/greet\n"
        hello, cat = (
            json.loads(succeeded(tool.run("which", name, c, "--json")).stdout) for c in ("hello-there", "cat")
        )
        assert (hello["path"], hello["real"], hello["own"]) == ("/usr/bin/hello-there", "/usr/local/bin/greet", True)
        assert (cat["path"], cat["own"]) == (shutil.which("cat"), False)
        refused(tool.run("which", name, "no-such-command"), 127, "no-such-command", name)
        end(session)
    assert tool.status(name)["running"] is False
    greeter.sh("cp --remove-destination /bin/cat /bin/cat.new && mv /bin/cat.new /bin/cat; rm /usr/local/bin/greet")
    assert json.loads(tool.run("which", name, "cat", "--json").stdout)["own"] is True
    refused(tool.run("which", name, "greet"), 127, "greet")


@pytest.mark.modes("full", "single", "root")
def test_a_linked_program(greeter: Environment) -> None:
    """It runs as the user where there is one, in the user's home, from the host and from inside."""
    tool, name = greeter.tool, greeter.name
    made = tool.run("link", name, "greet")
    assert f"{_bin(tool)} is not on your PATH" in succeeded(made).stderr
    wrapper = _bin(tool) / "greet"
    uid = tool.account.uid if tool.mode != "single" else 0
    result = _run(tool, wrapper, "a  b", "*", stdin="in")
    assert (result.returncode, result.stdout) == (3, f"{name} {uid} {tool.account.home} in a  b *\n"), describe(result)
    identity = "--me" if tool.mode == "full" else ""
    inside = greeter.exec(str(wrapper), "a  b", "*", stdin="in", identity=identity)
    assert (inside.returncode, inside.stdout.partition(" in ")[2]) == (3, "a  b *\n"), describe(inside)
    shown = json.loads(succeeded(tool.run("status", name, "--json")).stdout)["links"]
    assert [(s["command"], s["target"], s["path"], s["intact"]) for s in shown] == [
        ("greet", "/usr/local/bin/greet", str(wrapper), True)
    ]
    assert f"link:     {wrapper} -> /usr/local/bin/greet" in succeeded(tool.run("status", name)).stdout
    # The wrapper is the first on the PATH, and the same inside: it is not what is looked for there.
    path = (*tool.account.setpriv(), "env", f"PATH={_bin(tool)}:/usr/bin:/bin")
    assert succeeded(tool.run("which", name, "greet", prefix=path)).stdout == "/usr/local/bin/greet\n"
    assert "not on your PATH" not in succeeded(tool.run("link", name, "greet", prefix=path)).stderr
    assert greeter.exec("greet", prefix=path).returncode == 3
    succeeded(tool.run("unlink", name))
    assert os.listdir(_bin(tool)) == []


@pytest.mark.modes("full")
def test_what_cannot_be_linked(greeter: Environment) -> None:
    """One of several that cannot leaves none."""
    tool, name = greeter.tool, greeter.name
    refused(tool.run("link", name, "greet", "no-such-command"), 127, "no-such-command")
    refused(tool.run("link", name, "greet", "a/b"), 2, "a/b")
    refused(tool.run("link", "absent", "greet"), 1, "absent")
    assert not _bin(tool).exists()
    succeeded(tool.run("link", name, "cat"))
    (_bin(tool) / "greet").write_text("mine")
    refused(tool.run("link", name, "hello-there", "greet"), 1, "greet already exists")
    assert (_bin(tool) / "greet").read_text() == "mine"
    assert sorted(os.listdir(_bin(tool))) == ["cat", "greet"]
    refused(tool.run("unlink", name, "cat", "greet"), 1, "no link greet")
    assert sorted(os.listdir(_bin(tool))) == ["cat", "greet"]


@pytest.mark.modes("full", more=("root",))
def test_links_go_with_the_environment(greeter: Environment) -> None:
    """But for what the user has replaced; and what is left of one that is lost says so."""
    tool = greeter.tool
    other = tool.environment("with-links")
    succeeded(tool.run("create", *tool.options, other.name))
    other.sh(_MAKE)
    succeeded(tool.run("link", other.name, "greet", "hello-there", "cat"))
    refused(tool.run("link", greeter.name, "greet"), 1, "is a link to the environment with-links", "unlink")
    (_bin(tool) / "cat").write_text("mine")
    left = (_bin(tool) / "greet").read_bytes()
    succeeded(tool.run("remove", "--purge", other.name))
    assert os.listdir(_bin(tool)) == ["cat"]
    (_bin(tool) / "greet").write_bytes(left)
    (_bin(tool) / "greet").chmod(0o755)
    refused(_run(tool, _bin(tool) / "greet"), 125, "no environment with-links", "delete it")
    assert "with-links" not in succeeded(tool.run("list")).stdout


@pytest.mark.modes("full", more=("root",))
def test_links_of_snapshots_and_clones(greeter: Environment) -> None:
    """Snapshots and rollbacks leave them; a clone has none, as each command leads into one environment."""
    tool, name = greeter.tool, greeter.name
    succeeded(tool.run("link", name, "greet"))
    succeeded(tool.run("snapshot", name, "one"))
    greeter.sh("ln -s greet /usr/local/bin/later")
    which = json.loads(succeeded(tool.run("which", name, "hello-there", "--json")).stdout)
    assert (which["real"], which["own"]) == ("/usr/local/bin/greet", True)  # in a frozen layer now
    succeeded(tool.run("link", name, "later"))
    succeeded(tool.run("rollback", name, "one"))
    assert [(s["command"], s["intact"]) for s in tool.status(name)["links"]] == [("greet", True), ("later", True)]
    assert _run(tool, _bin(tool) / "greet", stdin="in").returncode == 3
    assert _run(tool, _bin(tool) / "later").returncode == 127
    copy = tool.environment(f"{name}-copy")
    succeeded(tool.run("clone", name, copy.name))
    assert tool.status(copy.name)["links"] == []
    assert json.loads(succeeded(tool.run("which", copy.name, "greet", "--json")).stdout)["own"] is True
    refused(tool.run("link", copy.name, "greet"), 1, f"is a link to the environment {name}")
    tool.end(copy.name)
    assert sorted(os.listdir(_bin(tool))) == ["greet", "later"]


@pytest.mark.modes("full", more=("single",))
def test_desktop_entries(greeter: Environment) -> None:
    """Only of the program, only what a menu needs, and nothing that is the user's own."""
    tool, name = greeter.tool, greeter.name
    home = tool.account.home
    (home / "secret").write_text("[Desktop Entry]\nType=Application\nName=Secret\nExec=greet\n")
    greeter.sh(_ENTRIES, str(home))
    made = tool.run("link", "--desktop", name, "hello-there", "cat", "--json")
    assert "no desktop entry that starts cat" in succeeded(made).stderr
    share = home / ".local" / "share"
    found = {str(p.relative_to(share)): p.read_text() for p in share.rglob("*") if p.is_file() and name in p.name}
    assert sorted(found) == sorted(
        f"{directory}/sysenv-ns-{name}-{file}"
        for directory, file in (
            ("applications", "climber.desktop"),
            ("applications", "greeter.desktop"),
            ("applications", "thief.desktop"),
            ("icons", "greeter.svg"),
            ("icons/hicolor/48x48/apps", "greeter.png"),
        )
    )
    entry = found[f"applications/sysenv-ns-{name}-greeter.desktop"]
    assert f"Exec={_bin(tool)}/hello-there --to %u\nTryExec={_bin(tool)}/hello-there\n" in entry
    assert f"Icon=sysenv-ns-{name}-greeter\n" in entry
    assert "DBus" not in entry
    assert "Icon" not in found[f"applications/sysenv-ns-{name}-climber.desktop"]
    assert {stat.S_IMODE(p.stat().st_mode) & 0o111 for p in share.rglob(f"*{name}*") if p.is_file()} == {0}
    assert sorted(json.loads(made.stdout)["links"][0]["files"][1:]) == sorted(str(share / path) for path in found)
    succeeded(tool.run("link", name, "hello-there"))
    assert not [p for p in share.rglob(f"*{name}*") if p.is_file()]


@pytest.mark.modes("sudo")
def test_links_are_the_users_own(greeter: Environment) -> None:
    """Root does the looking, the user the writing."""
    tool, name = greeter.tool, greeter.name
    succeeded(tool.run("link", name, "greet"))
    wrapper = _bin(tool) / "greet"
    assert {p.lstat().st_uid for p in (wrapper, wrapper.parent, wrapper.parent.parent)} == {tool.account.uid}
    result = _run(tool, wrapper, "x", stdin="in")
    assert (result.returncode, result.stdout) == (3, f"{name} {tool.account.uid} {tool.account.home} in x\n")
    succeeded(tool.run("unlink", name, "greet"))
    assert os.listdir(_bin(tool)) == []

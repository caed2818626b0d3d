"""path: a directory for PATH with the programs of an environment, for direnv, editors and builds of the host."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from .mirror import Mirror
from .support import Environment, Result, ran, refused, succeeded

_MAKE = r"""
program() {
    mkdir -p "${1%/*}"
    printf '#!/bin/sh\necho "%s $SYSENV_NS $PWD $*"; exit 3\n' "$1" > "$1"
    chmod 755 "$1"
}
program /usr/local/bin/greet
program /opt/greet/bin/elsewhere
program /usr/local/bin/sudo
program "/usr/local/bin/a b"
program "/usr/local/bin/$(printf 'x\ny')"
program '/usr/local/bin/$(id)'
ln -s /opt/greet/bin/elsewhere /usr/bin/linked
ln -s /nowhere /usr/bin/dangling
echo text > /usr/local/bin/text
cp /bin/cat /bin/cat.new && mv /bin/cat.new /bin/cat
"""


def _path(environment: Environment) -> Path:
    return Path(succeeded(environment.tool.run("path", environment.name)).stdout.removesuffix("\n"))


def _names(environment: Environment) -> list[str]:
    return sorted(name for name in os.listdir(_path(environment)) if not name.startswith("."))


def _on_host(environment: Environment, *command: str, path: Path, cwd: Path | None = None) -> Result:
    """A program of the host, for which the environment's come first."""
    tool = environment.tool
    kept = {name: value for name, value in tool.variables().items() if name != "SYSENV_NS_HOME"}
    return ran(
        [*tool.beginning, *command],
        cwd=cwd or tool.account.home,
        env=kept | {"PATH": f"{path}:/usr/bin:/bin"},
    )


@pytest.mark.modes("full", more=("single", "root"))
def test_what_is_added_or_changed(environment: Environment) -> None:
    tool, name = environment.tool, environment.name
    assert _names(environment) == []
    environment.sh(_MAKE)
    assert _names(environment) == ["cat", "greet", "linked"]
    path = _path(environment)
    if tool.mode != "root":
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    before = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(path)}
    result = _on_host(environment, "sh", "-c", "greet 'a  b'; echo $?; linked", path=path)
    home = tool.account.home
    said = [f"/usr/local/bin/greet {name} {home} a  b", "3", f"/opt/greet/bin/elsewhere {name} {home} "]
    assert (result.stdout.splitlines(), result.returncode) == (said, 3), result
    assert {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(_path(environment))} == before
    environment.sh("chmod 755 /usr/local/bin/text; rm /usr/local/bin/greet; ln -sf cat /usr/bin/dangling")
    assert _names(environment) == ["cat", "dangling", "linked", "text"]
    succeeded(tool.run("snapshot", name, "one"))  # they are in a frozen layer now
    assert _names(environment) == ["cat", "dangling", "linked", "text"]
    succeeded(tool.run("stop", name))
    succeeded(tool.run("rename", name, f"{name}-renamed"))
    assert not path.exists()
    succeeded(tool.run("rename", f"{name}-renamed", name))
    path = _path(environment)
    succeeded(tool.run("remove", "--yes", "--purge", name))
    assert not path.exists()
    refused(tool.run("path", name), 1, f"there is no environment {name}")
    succeeded(tool.run("create", name, *tool.options))


@pytest.mark.modes("full", more=("single",))
def test_inside_it_leads_to_what_is_there(environment: Environment) -> None:
    """In the environment itself and in others, as a shell that has the directory on its PATH may enter any."""
    tool = environment.tool
    environment.sh("cp /bin/echo /usr/local/bin/say")
    path = _path(environment)
    where = environment.exec(str(tool.launcher), "path", environment.name)
    assert succeeded(where).stdout == f"{path}\n"
    assert environment.sh('PATH=$1:$PATH; say "a  b"', str(path)) == "a  b\n"
    other = tool.environment(f"{environment.name}-other")
    succeeded(tool.run("create", other.name, *tool.options))
    other.sh("ln -s /bin/printf /usr/local/bin/say")
    assert other.sh('PATH=$1:$PATH; say "of %s" "$SYSENV_NS"', str(path)) == f"of {other.name}"
    tool.end(other.name)


@pytest.mark.modes("full")
def test_an_alternative_that_is_chosen_inside(environment: Environment) -> None:
    environment.sh("""
        printf '#!/bin/sh\\n' > /opt/chosen && chmod 755 /opt/chosen
        update-alternatives --install /usr/local/bin/chosen-tool chosen-tool /opt/chosen 1
        update-alternatives --install /usr/local/bin/hosts-tool hosts-tool /bin/true 1
    """)
    assert _names(environment) == ["chosen-tool", "hosts-tool"]


@pytest.mark.slow
@pytest.mark.modes("full")
def test_direnv_and_a_build_of_the_host(environment: Environment, mirror: Mirror, tmp_path: Path) -> None:
    """The recipe of docs/link.md, with direnv itself: make, of the host, calls a compiler that is inside only."""
    tool = environment.tool
    mirror.install(environment, "--no-install-recommends", "tcc", "libc6-dev")
    mirror.unpack(tmp_path / "direnv", "direnv")
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid():
            directory.chmod(directory.stat().st_mode | 0o055)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "sysenv-ns").symlink_to(tool.launcher)
    project = tool.account.home / f"project-of-{environment.name}"
    files = {
        ".envrc": f'PATH_add "$(sysenv-ns path {environment.name})"\n',
        "Makefile": "greeting: greeting.c\n\ttcc -o $@ $<\n",
        "greeting.c": '#include <stdio.h>\nint main(void) { puts("hello from a build"); }\n',
    }
    succeeded(_on_host(environment, "mkdir", str(project), path=programs))
    try:
        for name, text in files.items():
            (project / name).write_text(text)
            os.chown(project / name, tool.account.uid, tool.account.gid)
        direnv = str(tmp_path / "direnv/usr/bin/direnv")
        run = [f"SYSENV_NS_HOME={tool.store}", direnv, "exec", str(project), "make", "-C", str(project)]
        succeeded(_on_host(environment, direnv, "allow", str(project), path=programs))
        result = _on_host(environment, "env", *run, path=programs)
        assert "tcc -o greeting greeting.c" in succeeded(result).stdout
        assert (
            succeeded(_on_host(environment, str(project / "greeting"), path=programs)).stdout == "hello from a build\n"
        )
    finally:
        _on_host(environment, "rm", "-rf", str(project), path=programs)

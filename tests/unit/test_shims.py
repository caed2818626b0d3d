"""Directories for PATH: which names get a script, what is written where, and what makes one out of date."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from sysenv_ns.environment import shims
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store


@pytest.fixture
def environment(store: Store) -> Environment:
    """One that has changed something."""
    store.prepare()
    found = Environment("proj", "0", "root", None, 0.0, store.envs / "proj", store.path)
    for path in ("usr/bin", "etc/alternatives", "usr/share"):
        (found.upper / path).mkdir(parents=True)
    return found


def _names(store: Store) -> list[str]:
    return sorted(name for name in os.listdir(shims.place(store, "proj")) if not name.startswith("."))


@pytest.mark.parametrize(
    "name", ["a b", "-x", ".x", "x\ny", "$(id)", "x;y", "é", "\udcff", "~", "a=b", "[", "'", "a/b"]
)
def test_a_name_that_is_no_plain_word_gets_no_script(store: Store, environment: Environment, name: str) -> None:
    shims.write(store, environment, {name: f"/usr/bin/{name}", "g++-12": "/usr/bin/g++-12"}, b"1")
    assert _names(store) == ["g++-12"]
    assert os.listdir(shims.place(store, "proj").parent) == ["proj"]


@pytest.mark.parametrize("name", ["sudo", "su", "newuidmap", "sysenv-ns"])
def test_what_asks_for_another_identity_is_the_hosts(store: Store, environment: Environment, name: str) -> None:
    shims.write(store, environment, {name: f"/usr/bin/{name}"}, b"1")
    assert _names(store) == []


def test_a_script_runs_what_has_its_path_inside(store: Store, environment: Environment, tmp_path: Path) -> None:
    """In whichever environment that is; its path may be odd."""
    target = tmp_path / "it's $(id)"
    target.write_text("#!/bin/sh\necho ran $*\n")
    target.chmod(0o755)
    shims.write(store, environment, {"x": str(target)}, b"1")
    script = shims.place(store, "proj") / "x"
    for name in ("proj", "other"):
        run = subprocess.run([script, "a", "b"], env={"SYSENV_NS": name}, capture_output=True, text=True, check=True)
        assert run.stdout == "ran a b\n"
    assert b"exec --linked proj -- " in script.read_bytes()


def test_the_directory_is_the_users_alone_and_kept_in_step(store: Store, environment: Environment) -> None:
    shims.write(store, environment, {"a": "/usr/bin/a", "b": "/usr/bin/b"}, b"1")
    place = shims.place(store, "proj")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place.parent, place)] == [0o700, 0o700]
    before = (place / "b").stat()
    shims.write(store, environment, {"b": "/usr/bin/b", "c": "/usr/bin/c"}, b"2")
    assert _names(store) == ["b", "c"]
    assert (place / "b").stat().st_ino == before.st_ino
    assert shims.is_current(store, "proj", b"2")
    assert not shims.is_current(store, "proj", b"1")
    shims.remove(store, "proj")
    assert not place.exists()
    shims.remove(store, "proj")


def test_no_link_is_followed(store: Store, environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    shims.write(store, environment, {}, b"1")
    place = shims.place(store, "proj")
    for name in ("a", ".a.new", ".signature"):
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to(tmp_path / "victim")
    shims.write(store, environment, {"a": "/usr/bin/a"}, b"2")
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (place / "a").is_symlink()
    shims.remove(store, "proj")
    place.symlink_to(tmp_path)
    with pytest.raises(OSError, match="proj"):
        shims.write(store, environment, {"a": "/usr/bin/a"}, b"3")
    assert not (tmp_path / "a").exists()


def test_what_makes_it_out_of_date(store: Store, environment: Environment) -> None:
    upper = environment.upper
    seen = [shims.signature(store, environment)]

    def differs() -> bool:
        seen.append(shims.signature(store, environment))
        return seen[-1] != seen[-2]

    assert not differs()
    (upper / "usr/share/manual").touch()
    assert not differs()
    (upper / "usr/bin/new").touch(mode=0o644)
    assert differs()
    (upper / "usr/bin/new").chmod(0o755)
    assert differs()
    (upper / "etc/alternatives/editor").symlink_to("/usr/bin/new")
    assert differs()
    (upper / "usr/bin/new").unlink()
    assert differs()
    (upper / "usr/bin").chmod(0o000)
    if os.geteuid() != 0:
        assert differs()
    (upper / "usr/bin").chmod(0o755)
    other = Environment("other", "0", "root", None, 0.0, environment.path, store.path)
    assert shims.signature(store, other) != seen[0]

"""What an environment remembers of the host, and how far that is from the host of now."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.packages import dpkg, drift, origin
from sysenv_ns.packages.origin import Origin

pytestmark = pytest.mark.skipif(not Path(dpkg.STATUS).exists(), reason="no dpkg here")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new store."""
    found = Store(tmp_path / "store")
    found.prepare()
    return found


@pytest.fixture
def environment(store: Store) -> Environment:
    """One that comes from the host of now."""
    path = store.envs / "test"
    (path / "upper").mkdir(parents=True)
    key = origin.remember(store)
    origin.write(path, Origin(key, key))
    return Environment("test", "0", "stub", None, 0.0, path, store.path)


def _older(store: Store, environment: Environment, own_database: bool = True) -> None:
    """Let it be of a time when the package dpkg had another version, and packages of today were not there."""
    known = origin.read(environment.path)
    assert known is not None
    older = known.packages.replace(known.packages[:8], "0")
    path = origin.path_of(store, older)
    shutil.copytree(origin.path_of(store, known.packages), path)
    status = path / dpkg.STATUS[1:]
    packages = dpkg.parse_status(status.read_bytes())
    old = packages["dpkg"].paragraph.replace(f"Version: {packages['dpkg'].version}".encode(), b"Version: 0")
    status.write_bytes(dpkg.join([old, *(p.paragraph for k, p in packages.items() if k not in ("dpkg", "bash"))]))
    origin.write(environment.path, Origin(older, older))
    if own_database:
        place = environment.upper / dpkg.STATUS[1:]
        place.parent.mkdir(parents=True)
        shutil.copy(status, place)


def test_the_state_of_the_host_is_kept_once(store: Store, environment: Environment) -> None:
    key = origin.remember(store)
    assert origin.read(environment.path) == Origin(key, key)
    assert [path.name for path in origin.path_of(store, key).parent.iterdir()] == [key]
    kept = Path(f"{origin.path_of(store, key)}{dpkg.STATUS}")
    assert kept.read_bytes() == Path(dpkg.STATUS).read_bytes()
    assert origin.is_current(key)
    assert not origin.may_be_drifted(environment)
    assert drift.measure(store, environment) == drift.Drift()


_FORMS = (
    "Package: {0}\nStatus: {2}\nArchitecture: {1}\nVersion: {3}\n",
    "Package: {0}\nstatus: {2}\nStatus: hold ok installed\nArchitecture: {1}\nVersion: {3}\n",
    "Package: {0}\nStatus: {2}\nDescription: of\n Version: 9\nArchitecture: {1}\nVersion: {3}\n \nPackage: z\n",
)
_STATES = st.sampled_from(["install ok installed", "hold ok installed", "deinstall ok config-files"])
_PACKAGES = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xy")),
    st.tuples(st.sampled_from(_FORMS), _STATES, st.sampled_from("12")),
)


def _status_file(packages: dict[tuple[str, str], tuple[str, str, str]]) -> bytes:
    first = "Package: dpkg\nArchitecture: x\nStatus: install ok installed\nVersion: 1\n"
    others = (form.format(*key, state, version) for key, (form, state, version) in packages.items())
    return "\n".join([first, *others]).encode()


@given(before=_PACKAGES, now=_PACKAGES)
def test_what_is_found_without_parsing_is_what_parsing_finds(
    before: dict[tuple[str, str], tuple[str, str, str]], now: dict[tuple[str, str], tuple[str, str, str]]
) -> None:
    sides = _status_file(before), _status_file(now)
    changed = dict(drift._changed(*sides))
    if (found := drift._upgraded(*sides)) is not None:
        assert (found.old, found.new) in [both for key, both in changed.items() if key.partition(":")[0] == found.name]


def test_whose_accounts_are_looked_at(store: Store, environment: Environment) -> None:
    """Of those that are the environment's own, once for each state of the host's; of another host only at a rebase."""
    known, other = origin.read(environment.path), environment.path.with_name("other")
    assert known is not None
    older = Origin(known.packages, "0")
    origin.write(environment.path, older)
    assert not origin.follow(store, environment)  # they follow the host
    assert origin.read(environment.path) == known
    origin.write(environment.path, older)
    (environment.upper / "etc").mkdir()
    (environment.upper / "etc/passwd").write_text("own:x:1700:1700::/:\n")
    assert origin.follow(store, environment)
    origin.note_accounts_seen(environment, "0")
    assert origin.follow(store, environment)
    origin.note_accounts_seen(environment, origin.current_accounts())
    assert not origin.follow(store, environment)
    (environment.path / "accounts-seen").unlink()
    shutil.copytree(origin.path_of(store, known.packages), other)
    origin.write(environment.path, Origin(known.packages, origin.adopt(store, other)))
    assert not origin.follow(store, environment)


def test_two_keep_it_at_once(store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    path = origin.path_of(store, origin.remember(store))
    others, take = path.with_name("others"), origin._take
    path.rename(others)

    def take_slowly(target: Path) -> None:
        take(target)
        others.rename(path)

    monkeypatch.setattr(origin, "_take", take_slowly)
    assert origin.remember(store) == path.name
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_what_has_changed(store: Store, environment: Environment) -> None:
    _older(store, environment)
    found = drift.measure(store, environment)
    assert drift.glance(store, environment).is_there == found.is_there
    assert {change.name for change in found.changed} == {"dpkg", "bash"}
    assert next(change.old for change in found.changed if change.name == "dpkg") == "0"
    assert found.held == ()
    assert found.is_there


def test_it_is_said_once(store: Store, environment: Environment) -> None:
    _older(store, environment)
    assert origin.may_be_drifted(environment)
    line = drift.notice(store, environment)
    assert line is not None
    assert "2 packages" in line
    assert "sysenv-ns rebase test" in line
    assert not origin.may_be_drifted(environment)


def test_without_a_database_of_its_own_it_follows(store: Store, environment: Environment) -> None:
    _older(store, environment, own_database=False)
    assert drift.notice(store, environment) is None
    before = origin.remember(store)
    origin.follow(store, environment)
    now = {before, origin.remember(store)}  # two, if the host has got a user meanwhile, as other tests make some
    assert origin.read(environment.path) in [Origin(name, name) for name in now]


@pytest.mark.parametrize(
    "path",
    [
        *("etc/passwd", "var/lib/dpkg/status", "var/cache/debconf/config.dat"),
        *("usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/pacman/local/own-1/desc"),
    ],
)
def test_it_follows_with_what_it_has_not_changed(store: Store, environment: Environment, path: str) -> None:
    _older(store, environment, own_database=False)
    before = origin.read(environment.path)
    assert before is not None
    (environment.upper / path).parent.mkdir(parents=True)
    (environment.upper / path).touch()
    origin.follow(store, environment)
    now = origin.remember(store)
    expected = Origin(now, before.accounts) if path == "etc/passwd" else Origin(before.packages, now)
    assert origin.read(environment.path) == expected


def test_an_unknown_origin(store: Store, environment: Environment) -> None:
    _older(store, environment)
    (environment.path / "origin.json").write_text("{")
    assert drift.measure(store, environment) == drift.Drift(known=False)
    assert not origin.may_be_drifted(environment)


def test_databases_that_cannot_be_merged(store: Store, environment: Environment) -> None:
    database = "/var/lib/rpm/rpmdb.sqlite"
    _older(store, environment)
    known = origin.read(environment.path)
    assert known is not None
    Path(f"{origin.path_of(store, known.packages)}{origin.SIGNATURES}").write_text(f'{{"{database}": [1, 2, 3]}}')
    assert drift.unmerged(store, environment) == ()
    (environment.upper / database[1:]).parent.mkdir(parents=True)
    (environment.upper / database[1:]).touch()
    assert drift.unmerged(store, environment) == (database,)


@pytest.mark.parametrize("damage", ["{", "[]", "1", "null", "[" * 100_000, "\udcff"])
def test_a_damaged_origin_is_an_unknown_one(store: Store, environment: Environment, damage: str) -> None:
    _older(store, environment)
    known = origin.read(environment.path)
    assert known is not None
    path = Path(f"{origin.path_of(store, known.packages)}{origin.SIGNATURES}")
    path.write_text(damage, errors="surrogateescape")
    assert drift.measure(store, environment) == drift.Drift(known=False)
    with pytest.raises(OSError, match="damaged"):
        drift.unmerged(store, environment)


def _pipe(place: Path) -> None:
    os.mkfifo(place)


def _endless(place: Path) -> None:
    place.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_pipe, _endless, Path.mkdir])
def test_of_a_database_that_is_no_file_nothing_is_read(
    store: Store, environment: Environment, make: Callable[[Path], None]
) -> None:
    _older(store, environment)
    expected = drift.measure(store, environment).changed
    place = environment.upper / dpkg.STATUS[1:]
    place.unlink()
    make(place)
    assert origin.own_content(environment, dpkg.STATUS) is None
    assert drift.measure(store, environment).changed == expected


def test_what_nobody_names_is_deleted(store: Store, environment: Environment) -> None:
    _older(store, environment)
    named = origin.read(environment.path)
    assert named is not None
    for path in origin.path_of(store, named.packages).parent.iterdir():
        os.utime(path, (0, 0))
    origin.collect(store)
    assert [path.name for path in origin.path_of(store, named.packages).parent.iterdir()] == [named.packages]


def test_nothing_else_in_the_store_is_deleted(store: Store, environment: Environment) -> None:
    """However old it is, and whosever it is: snapshots, bases, environments."""
    (store.layers / "0123456789abcdef").mkdir(parents=True)
    (store.path / "base" / "stub").mkdir(parents=True)
    kept = sorted(path for path in store.path.rglob("*") if "origins" not in str(path.relative_to(store.path)))
    for path in (*store.path.iterdir(), *kept):
        os.utime(path, (0, 0))
    origin.collect(store)
    assert [path for path in kept if not path.exists()] == []


def test_a_symbolic_link_is_not_followed_out_of_the_store(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "old").mkdir()
    os.utime(outside / "old", (0, 0))
    origin.path_of(store, origin.current_key()).parent.symlink_to(outside)
    with pytest.raises(OSError, match="symbolic links"):
        origin.remember(store)
    origin.collect(store)
    assert os.listdir(outside) == ["old"]


def test_what_lies_in_a_frozen_layer_is_the_environments_own(store: Store, environment: Environment) -> None:
    _older(store, environment)
    expected = drift.measure(store, environment)
    ident = "0123456789abcdef"
    environment.path.rename(store.layers / ident)
    environment.upper.mkdir(parents=True)
    shutil.copy(store.layers / ident / "origin.json", environment.path)
    layered = replace(environment, layers=(ident,))
    assert drift.measure(store, layered) == expected
    assert expected.is_there
    assert origin.has_packages(layered)
    assert not origin.has_packages(environment)
    for path in store.path.glob("origins*/*"):
        os.utime(path, (0, 0))
    (environment.path / "origin.json").unlink()
    origin.collect(store)  # that of a frozen layer is needed, the one of today is not
    known = origin.read(store.layers / ident)
    assert known is not None
    assert [path.name for path in store.path.glob("origins*/*")] == [known.packages]


@pytest.mark.parametrize(
    ("text", "fits"),
    [(None, True), (Path("/etc/os-release").read_text(), True), ("ID=another\nVERSION_ID=1\n", False), ("", False)],
)
def test_the_release_that_an_environment_was_made_on(
    store: Store, environment: Environment, text: str | None, fits: bool
) -> None:
    """What an earlier version has made does not tell."""
    known = origin.read(environment.path)
    assert known is not None
    path = Path(f"{origin.path_of(store, known.packages)}{origin.RELEASE}")
    assert path.read_text() == Path(origin.RELEASE).read_text()
    path.unlink()
    if text is not None:
        path.write_text(text)
    if fits:
        origin.check_release(store, environment)
    else:
        with pytest.raises(SysenvError, match="test was made on"):
            origin.check_release(store, environment)

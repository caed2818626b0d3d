"""Unit files and their commands, as systemd's manual pages say they are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.within import directories, execution, orders, requirements, units, variables
from sysenv_ns.within.identities import Identity
from sysenv_ns.within.units import OrderError, Unit


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two directories of units, the first of which is this."""
    first, second = tmp_path / "etc", tmp_path / "usr"
    first.mkdir()
    second.mkdir()
    monkeypatch.setattr(units, "DIRECTORIES", (str(first), str(second)))
    monkeypatch.setattr(units, "_INIT_SCRIPTS", str(tmp_path / "init.d"))
    return first


def load(name: str) -> Unit:
    found = units.load(name)
    assert found is not None
    return found


def unit(name: str, **service: str) -> Unit:
    return Unit(name, "", {("Service", key): (value,) for key, value in service.items()})


def test_settings_of_a_file(directory: Path) -> None:
    text = """
    # a comment
    [Unit]
    Description=Two \\
      # and this is a comment between
      lines
    [Service]
    ExecStart=/bin/a
    ExecStart=
    ExecStart=/bin/b
    ; another
    Environment=A=1
    Environment="B=2 3"
    no setting
    """
    (directory / "x.service").write_text(text)
    found = load("x.service")
    assert found.description.split() == ["Two", "lines"]
    assert found.raw("Service", "ExecStart") == ("/bin/b",)
    assert found.values("Service", "Environment") == ("A=1", '"B=2 3"')


def test_drop_ins_come_after_the_file_by_their_names_and_the_first_directory_wins(directory: Path) -> None:
    second = directory.parent / "usr"
    (second / "x@.service").write_text("[Service]\nUser=file\n")
    for place, name, user in (
        (second / "x@.service.d", "10-a.conf", "template"),
        (second / "x@1.service.d", "20-b.conf", "instance"),
        (directory / "x@1.service.d", "20-b.conf", "wins"),
        (second / "service.d", "15-c.conf", "all"),
    ):
        place.mkdir(exist_ok=True)
        (place / name).write_text(f"[Service]\nUser={user}\n")
    assert load("x@1.service").raw("Service", "User") == ("file", "template", "all", "wins")


def test_aliases_and_masks(directory: Path) -> None:
    (directory / "real@.service").write_text("[Service]\n")
    (directory / "other@.service").symlink_to("real@.service")
    (directory / "gone.service").symlink_to("/dev/null")
    assert load("other@x.service").name == "real@x.service"
    with pytest.raises(OrderError, match="masked"):
        units.load("gone.service")
    assert units.load("absent.service") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%n|%N|%p|%i|%I", "a-b@c-d\\x2de.service|a-b@c-d\\x2de|a-b|c-d\\x2de|c/d-e"),
        ("%j|%P|%f", "b|a/b|/c/d-e"),
        ("%t%S%C%L%E", "/run/var/lib/var/cache/var/log/etc"),
        ("100%%", "100%"),
    ],
)
def test_specifiers(text: str, expected: str) -> None:
    assert unit("a-b@c-d\\x2de.service").expanded(text) == expected


def test_a_specifier_that_is_not_known_is_not_guessed() -> None:
    with pytest.raises(OrderError, match="%Z"):
        unit("x.service").expanded("%Z")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("1min 30s", 90), ("100ms", 0.1), ("2h", 7200), ("infinity", float("inf")), ("1.5d", 129600)],
)
def test_spans(text: str, seconds: float) -> None:
    assert units.span(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/bin/a b", ["/bin/a", "b"]),
        ("-/bin/a 'b c' \"d e\"", ["/bin/a", "b c", "d e"]),
        ("/bin/a $WORDS ${WORDS} x$ONE $$ONE ${NONE} $NONE", ["/bin/a", "one", "two", "one two", "x1", "$ONE", ""]),
        (":/bin/a $ONE", ["/bin/a", "$ONE"]),
        ("/bin/a %i", ["/bin/a", "i"]),
        (
            r"""/bin/a \x41\102\u0043 'two\x20words\s' "a\'b\tc" \$ONE \q""",
            ["/bin/a", "ABC", "two words ", "a'b\tc", "\\1", r"\q"],
        ),
        (r"""/bin/a '' x'y z'"w"  end\\""", ["/bin/a", "", "xy zw", "end\\"]),
        (r"/bin/a \xc3\xa4", ["/bin/a", "\udcc3\udca4"]),
    ],
)
def test_commands(text: str, expected: list[str]) -> None:
    [line] = execution.lines(unit("x@i.service", ExecStart=text), "ExecStart")
    assert line.arguments({"WORDS": "one two", "ONE": "1"}) == expected


def test_several_commands_and_prefixes() -> None:
    first, second = execution.lines(unit("x.service", ExecStart="-+@/bin/a name ; /bin/b \\; c"), "ExecStart")
    assert (first.words, first.may_fail, first.is_privileged, first.has_name) == (("/bin/a", "name"), True, True, True)
    assert second.words == ("/bin/b", ";", "c")
    assert second.may_fail is False


def test_files_of_variables(tmp_path: Path) -> None:
    file = tmp_path / "variables"
    file.write_text("A=1\n# B=2\nC=\"with spaces\"\nD='$A'\nE=plain text\nF=\n")
    found = variables.of(unit("x.service", EnvironmentFile=str(file)), Identity(), {})
    assert {key: found[key] for key in "ACDEF"} == {"A": "1", "C": "with spaces", "D": "$A", "E": "plain text", "F": ""}
    assert "B" not in found
    with pytest.raises(OrderError, match="absent"):
        variables.of(unit("x.service", EnvironmentFile="/absent"), Identity(), {})


@given(st.text(), st.dictionaries(st.sampled_from(["A", "B"]), st.text()))
def test_a_command_of_any_text_is_read_or_refused(text: str, variables: dict[str, str]) -> None:
    try:
        for line in execution.lines(unit("x.service", ExecStart=text), "ExecStart"):
            line.arguments(variables)
    except OrderError:
        pass


def test_order_of_units(directory: Path) -> None:
    for name, text in {
        "a": "Requires=b.service c.service\nAfter=b.service",
        "b": "After=c.service",
        "c": "Before=a.service\nAfter=a.service",  # a circle
    }.items():
        (directory / f"{name}.service").write_text(f"[Unit]\n{text}\n[Service]\nExecStart=/bin/true\n")
    wanted: dict[str, tuple[Unit, bool]] = {}
    orders._gather(load("a.service"), True, wanted)
    names = [found.name for found, _ in orders._ordered(wanted)]
    assert sorted(names) == ["a.service", "b.service", "c.service"]
    assert names.index("b.service") < names.index("a.service")


@pytest.mark.parametrize("kind", ["automount", "mount", "path"])
def test_other_kinds_of_units_are_refused(kind: str) -> None:
    with pytest.raises(OrderError, match=f"type {kind} are not supported"):
        requirements.require_supported(unit(f"x.{kind}"))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where units have their state; beside it lies `victim`, with a file."""
    monkeypatch.setattr(directories, "_DIRECTORIES", {"State": str(tmp_path / "state")})
    (tmp_path / "victim").mkdir(mode=0o700)
    (tmp_path / "victim/file").touch()
    return tmp_path / "state"


def test_a_link_of_a_daemons_is_not_followed(state: Path, tmp_path: Path) -> None:
    (state / "own").mkdir(parents=True)
    link = state / "own/inner"
    link.symlink_to(tmp_path / "victim")
    if os.getuid() == 0:
        os.lchown(link, 1, 1)
    mine = Identity(os.getuid(), os.getgid())
    with pytest.raises(OSError, match="Not a directory"):
        directories.make(unit("x.service", StateDirectory="own/inner", StateDirectoryMode="0777"), mine)
    assert (tmp_path / "victim").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root has links of root's")
def test_a_link_of_roots_is_followed(state: Path, tmp_path: Path) -> None:
    state.mkdir()
    (state / "own").symlink_to(tmp_path / "victim")
    mine = Identity(os.getuid(), os.getgid())
    directories.make(unit("x.service", StateDirectory="own", StateDirectoryMode="0750"), mine)
    assert (tmp_path / "victim").stat().st_mode & 0o777 == 0o750


def test_what_is_renamed_meanwhile_is_not_given(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another daemon, whose directory it was, puts a link in place of what is being given away."""
    inner, victim = state / "own/inner", tmp_path / "victim"
    inner.mkdir(parents=True)
    for name in ("file", "other"):
        (inner / name).touch()
        (victim / name).touch()
    victims = {entry.stat().st_ino for entry in victim.iterdir()}
    given = []

    def give(path: str | int, uid: int, gid: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
        found = os.fstat(path) if isinstance(path, int) else os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        given.append(found.st_ino)
        if os.path.basename(str(path)) in ("file", "other") and not inner.is_symlink():
            inner.rename(state / "own/moved")
            inner.symlink_to(victim)

    monkeypatch.setattr(os, "chown", give)
    monkeypatch.setattr(os, "lchown", give)
    directories.make(unit("x.service", StateDirectory="own"), Identity(12345, 12345))
    assert len(given) == 4
    assert not victims & {*given}

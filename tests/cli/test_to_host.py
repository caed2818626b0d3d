"""apply on the command line: what is refused before anything is looked at, what is asked, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sysenv_ns.store import Store
from sysenv_ns.to_host import making, render, sending
from sysenv_ns.to_host.entries import Entry
from sysenv_ns.to_host.making import Made, Options
from sysenv_ns.to_host.plan import Left, Package, Plan, Step

from .conftest import Run

FILE = Entry("file", 0o4755, 0, 0, 3, 0, "digest")
PLAN = Plan(
    "proj",
    (
        Package("new", "added", "", "1", True),
        Package("old", "removed", "2", ""),
        Package("deb", "upgraded", "1", "2", False, "deb_2_all.deb", 5_000),
    ),
    (
        Step("/etc/apt/sources.list.d/a.list", "put", None, replace(FILE, mode=0o644), of_sources=True),
        Step("/usr/bin/new\nline", "put", None, FILE, "root", "adm"),
        Step("/etc/gone", "delete", FILE, None),
        Step("/etc/changed", "put", FILE, replace(FILE, size=5000, mode=0o644)),
        Step("/usr/local/again", "put", None, FILE, link="/usr/bin/x"),
    ),
    (Left("/etc/fstab", "it is this machine's own"),),
)
TEXT = """\
Sources of packages
  +  /etc/apt/sources.list.d/a.list  3 B

Packages
  added     new  1       automatic
  removed   old  2
  upgraded  deb  1 -> 2  from the environment's deb_2_all.deb, 5.0 kB

Commands
  /usr/bin/apt-get --quiet update --error-on=any
  /usr/bin/apt-get --quiet --yes --no-install-recommends --allow-downgrades --no-auto-remove -o APT::Get::Purge=false \
-o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
install new=1 old- ./deb_2_all.deb
  /usr/bin/apt-mark auto new

Files
  +  "/usr/bin/new\\nline"  3 B, mode 4755, owner root:adm
  -  /etc/gone             3 B
  ~  /etc/changed          3 B -> 5.0 kB
  +  /usr/local/again      another name of /usr/bin/x, 3 B, mode 4755

Left alone
  /etc/fstab  it is this machine's own
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What root is asked to do; plans are always the same."""
    asked: list[dict[str, Any]] = []

    def ask(request: dict[str, Any], send: Callable[[int], None] | None = None) -> dict[str, Any]:
        asked.append(request)
        if request["verb"] == "show":
            old = {"number": 0, "old": None, "new": None, "now": {"type": "file"}, "of_sources": False}
            files = [{**old, "path": "/a", "state": "undo"}, {**old, "path": "/b", "state": "changed"}]
            if request["ident"] == "nothing":
                files, unavailable = [], []
            else:
                unavailable = ["x 1"]
            found = {"packages": [], "unavailable": unavailable, "files": files, "finished": False, "repair": False}
            return {"ident": "20260101-000000.000000-proj", **found}
        kept = ["/b"] if request.get("plan", {}).get("files") else []
        return {"ident": "20260101-000000.000000-proj", "skipped": (), "kept": kept, "unsound": ["x"] if kept else []}

    def make(store: Store, name: str, options: Options) -> Made:
        return Made(PLAN if name == "proj" else Plan(name, (), ()), ())

    monkeypatch.setattr(sending, "ask", ask)
    monkeypatch.setattr(making, "make", make)
    return asked


def test_a_dry_run_shows_the_plan_and_asks_nobody(run: Run, asked: list[dict[str, Any]]) -> None:
    result = run("apply", "proj", "--dry-run")
    assert (result.exit_code, result.stderr, asked) == (0, "", [])
    plain = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert plain == [" ".join(line.split()) for line in TEXT.splitlines()]


def test_nothing_in_a_plan_hides_a_line_of_it() -> None:
    evil = "\x1b[2K\r"
    step = Step("/a" + evil, "put", None, replace(FILE, type="symlink", target=evil), "root" + evil, "adm" + evil)
    package = Package("new" + evil, "upgraded", evil, "1" + evil, False, "deb" + evil)
    text = render.text(Plan("proj", (package,), (step,), (Left(evil, f"it is of {evil}"),)))
    assert all(line.isprintable() for line in text.split("\n"))


def test_without_a_yes_nothing_is_done(run: Run, asked: list[dict[str, Any]]) -> None:
    result = run("apply", "proj")
    assert (result.exit_code, asked) == (1, [])
    assert (result.stdout, result.stderr.startswith("Sources of packages\n")) == ("", True)
    assert "\nsysenv-ns: nobody can be asked whether this shall be done\nhint: " in result.stderr


def test_what_was_shown_is_sent(run: Run, asked: list[dict[str, Any]]) -> None:
    result = run("apply", "proj", "--yes", "--json")
    data = json.loads(result.stdout)
    sent = json.loads(json.dumps(asked[0]["plan"]))
    assert {key: value for key, value in data["plan"].items() if key != "commands"} == sent
    assert data["done"]["ident"] == "20260101-000000.000000-proj"


def test_nothing_to_do(run: Run, asked: list[dict[str, Any]]) -> None:
    result = run("apply", "other", "--yes")
    assert (result.exit_code, asked) == (0, [])
    assert result.stderr == "sysenv-ns: there is nothing of other to be carried over\n"


def test_undo(run: Run, asked: list[dict[str, Any]]) -> None:
    result = run("apply", "--undo", "--dry-run")
    assert result.exit_code == 0
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "Files",
        "- /a",
        "= /b changed since: stays (--force overwrites it, and keeps it beside the backup)",
        "",
        "Left alone",
        "x 1 apt has no such version any more",
    ]
    assert run("apply", "--undo").exit_code == 1
    assert [request["verb"] for request in asked] == ["show", "show"]
    result = run("apply", "--undo", "some", "--yes")
    assert (result.exit_code, asked[-1]["verb"], asked[-2]["ident"]) == (1, "undo", "some")
    assert "changed since, and left as it is: /b" in result.stderr
    assert "dpkg is not done with x; see: dpkg --audit" in result.stderr
    assert "hint: see: sysenv-ns apply --undo some --force" in result.stderr


def test_nothing_to_undo(run: Run, asked: list[dict[str, Any]]) -> None:
    """An apply that was killed before it began is done with, and nobody is asked."""
    result = run("apply", "--undo", "nothing")
    assert (result.exit_code, asked[-1]["verb"]) == (0, "undo")
    assert "20260101-000000.000000-proj did not come to its end" in result.stderr
    assert "all is as it was before it" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'NAME'"),
        (("proj", "--json"), "--json does not ask"),
        (("proj", "--force"), "--force is for --undo alone"),
        (("--undo", "id", "--files"), "--undo takes back all of an apply"),
        (("--undo", "id", "/path"), "--undo takes back all of an apply"),
    ],
)
def test_wrong_use(run: Run, asked: list[dict[str, Any]], arguments: tuple[str, ...], said: str) -> None:
    result = run("apply", *arguments)
    assert (result.exit_code, asked) == (2, [])
    assert said in result.stderr


def test_help(run: Run) -> None:
    result = run("apply", "--help")
    assert "without a yes nothing is" in " ".join(result.stdout.split())


def test_an_unknown_environment(run: Run, environments: Store) -> None:
    result = run("apply", "unknown", "--yes")
    assert result.exit_code == 1
    assert "there is no environment unknown" in result.stderr


def test_from_inside(run: Run, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("SYSENV_NS", "proj")
    result = run("apply", "proj")
    assert "cannot change this system from inside the environment proj" in result.stderr

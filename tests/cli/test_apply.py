"""apply on the command line: what is refused before anything is looked at, what is asked, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from sysenv_ns.apply import client, plan, planner
from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.execution import Done
from sysenv_ns.apply.plan import Omission, PackageStep, Plan, Step
from sysenv_ns.apply.planner import ApplyOptions, Made
from sysenv_ns.apply.root import Request, Undone
from sysenv_ns.apply.undo import Restored, Undo
from sysenv_ns.environment.store import Store
from sysenv_ns.verbs import apply

from .conftest import Run

FILE = Entry("file", 0o4755, 0, 0, 3, 0, "digest")
PLAN = Plan(
    "proj",
    (
        PackageStep("new", "added", "", "1", True),
        PackageStep("old", "removed", "2", ""),
        PackageStep("deb", "upgraded", "1", "2", False, "deb_2_all.deb", 5_000),
    ),
    (
        Step("/etc/apt/sources.list.d/a.list", "put", None, replace(FILE, mode=0o644), of_sources=True),
        Step("/usr/bin/new\nline", "put", None, FILE, "root", "adm"),
        Step("/etc/gone", "delete", FILE, None),
        Step("/etc/changed", "put", FILE, replace(FILE, size=5000, mode=0o644)),
        Step("/usr/local/again", "put", None, FILE, link="/usr/bin/x"),
    ),
    (Omission("/etc/fstab", "it is specific to this machine"),),
)
TEXT = """\
warning: package deb: its file comes from the environment, and its scripts run as root; no repository vouches for them
warning: /etc/apt/sources.list.d/a.list: apt installs packages from there as root
warning: "/usr/bin/new\\nline": setuid: it runs as root, whoever starts it
warning: /usr/local/again: setuid: it runs as root, whoever starts it

Sources of packages
  +  /etc/apt/sources.list.d/a.list  3 B
      | a\\x1b

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
  +  "/usr/bin/new\\nline"  3 B, mode 4755 (setuid), owner root:adm
  -  /etc/gone             3 B
  ~  /etc/changed          3 B -> 5.0 kB, mode 4755 (setuid) -> 0644
  +  /usr/local/again      another name of /usr/bin/x, 3 B, mode 4755 (setuid)

Left alone
  /etc/fstab  it is specific to this machine
"""


IDENT = "20260101-000000.000000-proj"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What root is asked to do; plans are always the same."""
    asked: list[Request] = []

    def ask(request: Request, kind: type[object], send: Callable[[int], None] | None = None) -> object:
        asked.append(request)
        found = answer(request)
        assert type(found) is kind
        return found

    def answer(request: Request) -> Done | Undo | Undone:
        if request.plan is not None:
            return Done(IDENT)
        if request.undo is not None:
            kept = ("/b",) if request.undo.files else ()
            return Undone(IDENT, kept, ("x",) if kept else ())
        files = (
            Restored(0, "/a", "undo", None, None, FILE, of_sources=False),
            Restored(0, "/b", "changed", None, None, FILE, of_sources=False),
        )
        nothing = request.ident == "nothing"
        unavailable = () if nothing else ("x 1",)
        return Undo(IDENT, "proj", (), unavailable, () if nothing else files, finished=False, repair=False)

    def make(store: Store, name: str, options: ApplyOptions) -> Made:
        made = PLAN if name == "proj" else Plan(name, (), ())
        return Made(made, (), {"/etc/apt/sources.list.d/a.list": "a\x1b\n"} if name == "proj" else {})

    monkeypatch.setattr(client, "ask", ask)
    monkeypatch.setattr(planner, "make", make)
    return asked


def test_a_dry_run_shows_the_plan_and_asks_nobody(run: Run, asked: list[Request]) -> None:
    result = run("apply", "proj", "--dry-run")
    assert (result.exit_code, result.stderr, asked) == (0, "", [])
    plain = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert plain == [" ".join(line.split()) for line in TEXT.splitlines()]


def test_nothing_in_a_plan_hides_a_line_of_it() -> None:
    evil = "\x1b[2K\r"
    step = Step("/a" + evil, "put", None, replace(FILE, type="symlink", target=evil), "root" + evil, "adm" + evil)
    package = PackageStep("new" + evil, "upgraded", evil, "1" + evil, False, "deb" + evil)
    attributes = (("user." + evil, ""), ("security.capability", evil))
    source = Step("/etc/apt/apt.conf.d/x" + evil, "put", None, replace(FILE, attributes=attributes), of_sources=True)
    made = Plan("proj", (package,), (source, step), (Omission(evil, f"it is of {evil}"),))
    text = apply.text(made, {source.path: f"x{evil}\nSources\r\n\u202e"})
    assert text.count("\n      | ") == 3
    assert all(line.isprintable() for line in text.split("\n"))


def test_without_a_yes_nothing_is_done(run: Run, asked: list[Request]) -> None:
    result = run("apply", "proj")
    assert (result.exit_code, asked) == (1, [])
    assert (result.stdout, result.stderr.startswith("warning: package deb")) == ("", True)
    assert "\nsysenv-ns: cannot ask for confirmation: no terminal\nhint: " in result.stderr


def test_what_was_shown_is_sent(run: Run, asked: list[Request]) -> None:
    result = run("apply", "proj", "--yes", "--json")
    data = json.loads(result.stdout)
    sent = json.loads(json.dumps(plan.as_data(asked[0].plan or Plan("", (), ()))))
    warnings = {warning["what"]: warning["why"] for warning in data["plan"].pop("warnings")}
    assert warnings["/usr/bin/new\nline"] == "setuid: it runs as root, whoever starts it"
    shown = {step["path"]: (step.pop("details"), step.pop("text")) for step in data["plan"]["steps"]}
    assert shown["/etc/apt/sources.list.d/a.list"] == (["3 B"], "a\x1b\n")
    assert shown["/etc/changed"] == (["3 B -> 5.0 kB", "mode 4755 (setuid) -> 0644"], None)
    assert {key: value for key, value in data["plan"].items() if key != "commands"} == sent
    assert data["done"]["ident"] == "20260101-000000.000000-proj"


def test_nothing_to_do(run: Run, asked: list[Request]) -> None:
    result = run("apply", "other", "--yes")
    assert (result.exit_code, asked) == (0, [])
    assert result.stderr == "sysenv-ns: nothing of other to apply\n"


def test_undo(run: Run, asked: list[Request]) -> None:
    result = run("apply", "--undo", "--dry-run")
    assert result.exit_code == 0
    assert [" ".join(line.split()) for line in result.stdout.splitlines()] == [
        "Files",
        "- /a",
        "= /b changed since: stays (--force overwrites it, and keeps it beside the backup)",
        "",
        "Left alone",
        "x 1 apt no longer has this version",
    ]
    assert run("apply", "--undo").exit_code == 1
    assert [request.undo for request in asked] == [None, None]
    result = run("apply", "--undo", "some", "--yes")
    assert (result.exit_code, asked[-2].ident, asked[-1].ident) == (1, "some", IDENT)
    assert asked[-1].undo is not None
    assert "changed since, and not undone: /b" in result.stderr
    assert "dpkg has not finished configuring x; see: dpkg --audit" in result.stderr
    assert "hint: see: sysenv-ns apply --undo some --force" in result.stderr


def test_nothing_to_undo(run: Run, asked: list[Request]) -> None:
    """An apply that was killed before it began is done with, and nobody is asked."""
    result = run("apply", "--undo", "nothing")
    assert result.exit_code == 0
    assert asked[-1].undo is not None
    assert "20260101-000000.000000-proj was not completed" in result.stderr
    assert "everything is as it was before" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'NAME'"),
        (("proj", "--json"), "--json cannot ask"),
        (("proj", "--force"), "--force needs --undo"),
        (("--undo", "id", "--files"), "--undo undoes a whole apply"),
        (("--undo", "id", "/path"), "--undo undoes a whole apply"),
    ],
)
def test_wrong_use(run: Run, asked: list[Request], arguments: tuple[str, ...], said: str) -> None:
    result = run("apply", *arguments)
    assert (result.exit_code, asked) == (2, [])
    assert said in result.stderr


def test_help(run: Run) -> None:
    result = run("apply", "--help")
    assert "asks before it does anything" in " ".join(result.stdout.split())


def test_an_unknown_environment(run: Run, environments: Store) -> None:
    result = run("apply", "unknown", "--yes")
    assert result.exit_code == 1
    assert "there is no environment unknown" in result.stderr


def test_from_inside(run: Run, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setenv("SYSENV_NS", "proj")
    result = run("apply", "proj")
    assert "cannot change this system from inside the environment proj" in result.stderr

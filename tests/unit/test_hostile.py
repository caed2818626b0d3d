"""No renderer lets a name, a version or a text do anything to a terminal, or make a line of its own."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given

from sysenv_ns import listing, text
from sysenv_ns.apply import plan
from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.execution import Done
from sysenv_ns.apply.undo import Restored, Undo
from sysenv_ns.console import json_pieces
from sysenv_ns.diff import patch
from sysenv_ns.diff.changes import Change, Facts, PackageChange
from sysenv_ns.diff.difference import Difference
from sysenv_ns.diff.patch import ContentPair
from sysenv_ns.drivers.diagnosis import Diagnosis, Finding
from sysenv_ns.environment.history import Frozen, History
from sysenv_ns.environment.links import Shown
from sysenv_ns.environment.running import refuse
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel.processes import Process
from sysenv_ns.manifest import parser, writer
from sysenv_ns.manifest.document import AddedFile, Manifest, Script
from sysenv_ns.manifest.plans import Action
from sysenv_ns.manifest.sync import SyncResult as Synced
from sysenv_ns.packages.drift import Drift
from sysenv_ns.rebase import shown as of_rebase
from sysenv_ns.rebase.rebase import PackageChoice
from sysenv_ns.rebase.rebase import RebaseResult as Rebased
from sysenv_ns.status import Status
from sysenv_ns.verbs import apply, diff, doctor, history, link, status, sync

from .hostile import FORGED, NASTY, NASTY_TEXTS, harmless

_FILE = Facts("file", 0o644, 0, 0, 1)


def _plain(shown: str, colour: str) -> str:
    return shown


@given(NASTY_TEXTS)
def test_tables_and_fields(value: str) -> None:
    assert harmless(text.table([("a", value, "b"), (value, "", value)]))
    assert len(text.table([("a", value, "b"), (value, "", value)]).split("\n")) == 2
    assert len(patch.quoted(value).split("\n")) == 1
    assert patch.quoted(value).isprintable()


@pytest.mark.parametrize("value", NASTY)
def test_status_list_stop_history_and_links(value: str) -> None:
    process = Process(7, value)
    shown_link = Shown(value, value, f"/home/x/{value}", (value,), intact=False)
    drift = Drift(True, (), (value,), (value,), (value,))
    found = Status(
        *("a", value, value, 0.0, f"/s/{value}", (process,)),
        problem=value,
        host_changed=True,
        drift=drift,
        snapshots=(value,),
        links=(shown_link,),
    )
    snapshots = History(value, (Frozen(value, 0.0, 1, automatic=True, current=True),), 1)
    for shown in (
        status.text(found),
        status.text(replace(found, problem="", drift=Drift(known=False))),
        listing.text([found]),
        history.text(snapshots),
        link.text(shown_link),
        status.process_line(process),
        doctor.text(Diagnosis((Finding("store", False, value, value),), None, None)),
    ):
        assert harmless(shown), shown
    assert len(listing.text([found]).split("\n")) == 2
    assert len(status.process_line(process).split("\n")) == 1
    for data in (status.as_data(found), [value, {value: value}]):
        shown = json.dumps(data)
        assert harmless(shown)
        assert shown.isascii()
        assert json.loads(shown)
    with pytest.raises(SysenvError) as raised:
        refuse("a", (process, process), "stop it")
    assert raised.value.message.count("(") >= 2
    assert harmless(raised.value.message)


@pytest.mark.parametrize("value", NASTY)
def test_diff(value: str) -> None:
    path = f"/etc/{value}"
    found = Difference(
        "a",
        tuple(PackageChange(value, kind, value, value) for kind in ("added", "upgraded", "removed")),
        (
            Change(path, "added", None, _FILE, package=value),
            Change(f"/opt/{value}", "added", None, Facts("directory", 0o755, 0, 0)),
            Change(f"/opt/{value}/{value}", "added", None, _FILE, package=f"{value}2"),
            Change(f"/usr/{value}", "deleted", Facts("symlink", 0o777, 0, 0), None),
            Change(f"/var/log/{value}", "added", None, _FILE, fold="log"),
        ),
    )
    for everything in (True, False):
        assert harmless(diff.summary(found, everything, _plain))
        assert harmless(diff.files(found, everything, _plain))
    assert harmless(diff.packages(found, _plain))
    assert len(diff.packages(found, _plain).split("\n")) == 3
    exact = json.loads(shown := "".join(json_pieces(diff.as_data(found))))
    assert harmless(shown.replace("\n", ""))
    assert [change["path"] for change in exact["changes"]] == [change.path for change in found.changes]
    assert [change["package"] for change in exact["changes"]] == [change.package for change in found.changes]
    contents = [ContentPair(Change(path, "modified", _FILE, _FILE), f"{value}\n", f"{value}{value}\n", False)]
    shown = diff.patches(contents, "a", _plain)
    assert text.coloured(shown) == shown
    assert all(line.isprintable() for line in shown.replace("\t", "\n").split("\n"))
    exact = diff.patches(contents, "a")
    assert all(line in exact for line in value.split("\n"))


@pytest.mark.parametrize("value", NASTY)
def test_rebase(value: str) -> None:
    decision = PackageChoice(value, "own", value, old=value, new=f"{value}2", own=f"{value}3")
    for done in (True, False):
        shown = of_rebase.text(Rebased((decision,), (value,), (value,), done))
        assert harmless(shown), shown
        assert len(shown.split("\n")) == 3 + (not done)


@pytest.mark.parametrize("value", NASTY)
def test_sync(value: str) -> None:
    content = value.encode("utf-8", "backslashreplace") + b"\n\xff\x9b\x1b[2J"
    files = (
        AddedFile(content, mode=0o755, owner=value),
        AddedFile(link=value),
        AddedFile(b"\0" * 10, source=value),
    )
    actions = [Action("file", f"/etc/{value}", file) for file in files]
    actions += [Action(kind, value, content) for kind in ("script", "repository", "answer", "key")]
    actions += [Action(kind, value) for kind in ("install", "remove", "drop", "hold", "architecture", "file")]
    for created in (True, False):
        result = Synced("a", f"/home/{value}/sysenv.toml", tuple(actions), created, False, (), value)
        shown = sync.text(result)
        assert all(line.isprintable() for line in shown.split("\n")), shown
        assert not [line for line in shown.split("\n") if line.startswith(FORGED)]
        forged = [line for line in shown.split("\n") if line.lstrip().startswith(FORGED)]
        assert forged == []
        assert harmless(sync.text(replace(result, actions=())))
        assert harmless(json.dumps(sync.as_data(result)))


@pytest.mark.parametrize("value", NASTY)
def test_apply(value: str) -> None:
    entry = Entry("file", 0o4755, 0, 0, 3, 0, "digest")
    link = Entry("symlink", 0o777, 0, 0, target=value)
    packages = tuple(plan.PackageStep(value, kind, value, value, True, value, 1) for kind in ("added", "upgraded"))
    steps = (
        plan.Step(f"/etc/apt/{value}", "put", None, entry, value, value, of_sources=True),
        plan.Step(f"/etc/{value}", "put", link, entry, value, value, link=value),
        plan.Step(f"/usr/{value}", "put", entry, link),
        plan.Step(f"/opt/{value}", "delete", entry, None),
    )
    made = plan.Plan("a", packages, steps, (*(plan.Omission(value, value),) * 10,))
    assert harmless(apply.text(made)), apply.text(made)
    assert harmless(json.dumps(apply.as_data(made, Done(value, (value,)))))
    files = tuple(Restored(0, value, state, link, None, entry, False) for state in ("changed", "undo"))
    packages = tuple(replace(package, file="") for package in packages)
    undo = Undo(value, value, packages, (value,), files, finished=True, repair=False)
    assert harmless(apply.undo_text(undo, force=False))


@pytest.mark.parametrize("value", NASTY)
def test_a_manifest_shows_all_that_is_in_it(value: str) -> None:
    """A text that people look at before they agree, with what cannot be seen in escapes; it says what it said."""
    known = value.encode("utf-8", "replace").decode()
    manifest = Manifest(
        "a", files={f"/etc/{known}": AddedFile(f"{known}\nb\n".encode())}, scripts=(Script("x", known),)
    )
    if "\0" in known:
        manifest = replace(manifest, files={}, scripts=())
    shown = writer.render(manifest, [f"  {value}: upgraded: {value} -> 2"])
    assert all(line.isprintable() for line in shown.replace("\t", "\n").split("\n"))
    comments = [line for line in shown.split("\n") if line.startswith("#")]
    assert len(comments) == 1
    assert "\t" not in comments[0]
    assert tomllib.loads(shown) == tomllib.loads(writer.render(manifest))
    assert parser.parse(shown.encode(), "here") == manifest

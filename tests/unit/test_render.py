"""Results as text and JSON, and the reasons of errors."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace

import pytest

from sysenv_ns import errors, listing
from sysenv_ns.drivers.diagnosis import Diagnosis, Finding
from sysenv_ns.environment.history import Frozen, History
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel.processes import Process
from sysenv_ns.lower.upkeep import Refreshed
from sysenv_ns.rebase import shown
from sysenv_ns.rebase.rebase import PackageChoice, RebaseResult
from sysenv_ns.status import Status
from sysenv_ns.text import size, table
from sysenv_ns.verbs import doctor, history, refresh, status

STOPPED = Status("a", "stub", "full", 1_700_000_000.0, "/s/envs/a", ())
RUNNING = Status("longer", "root", None, 1_700_000_000.0, "/s/envs/longer", (Process(12, "sh -c x"), Process(13, "vi")))
DAMAGED = Status("c", "", None, 0.0, "/s/envs/c", (), "env.json of c is damaged")


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([("a", "b"), ("long", "c")], "a     b\nlong  c"),
        ([("a", ""), ("b", "")], "a\nb"),
        ([("only",)], "only"),
        ([], ""),
    ],
)
def test_table(rows: list[tuple[str, ...]], text: str) -> None:
    assert table(rows) == text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (Refreshed(), "the base is up to date"),
        (Refreshed(1, 1), "refreshed 1 file in 1 directory"),
        (Refreshed(0, 2), "refreshed 0 files in 2 directories"),
    ],
)
def test_refreshed(result: Refreshed, text: str) -> None:
    assert refresh.text(result) == text


def test_a_changed_host_shows() -> None:
    changed = replace(RUNNING, host_changed=True)
    assert "sysenv-ns stop longer" in status.text(changed)
    assert status.as_data(changed)["host_changed"] is True
    assert "host:" not in status.text(RUNNING)


def test_listing() -> None:
    lines = [line.split() for line in listing.text([STOPPED, RUNNING, DAMAGED]).splitlines()]
    assert lines[0] == ["NAME", "STATE", "DRIVER", "IDS", "CREATED"]
    assert lines[1][:4] == ["a", "stopped", "stub", "full"]
    assert lines[2][:5] == ["longer", "running", "(2)", "root", "-"]
    assert lines[3] == ["c", "damaged", "-", "-", "-"]


def test_status_of_a_running_environment() -> None:
    lines = [line.split(maxsplit=1) for line in status.text(RUNNING).splitlines()]
    assert ["state:", "running (2)"] in lines
    assert ["changes:", "/s/envs/longer/upper"] in lines
    assert [value for label, value in lines if label == "process:"] == ["12 sh -c x", "13 vi"]
    assert "problem:" not in status.text(RUNNING)


def test_status_tells_where_the_changes_of_a_throwaway_environment_are() -> None:
    memory, disk = (status.text(replace(RUNNING, ephemeral=place)).splitlines() for place in ("memory", "disk"))
    assert "changes:  in memory, gone with its last process" in memory
    assert f"changes:  {RUNNING.path}/upper, gone with its last process" in disk


def test_status_of_a_damaged_environment() -> None:
    assert "problem:  env.json of c is damaged" in status.text(DAMAGED).splitlines()


def test_an_absurd_date_is_no_error() -> None:
    for created in (1e20, float("nan"), float("inf"), -1e20):
        assert listing.text([Status("a", "stub", "full", created, "/s", ())]).startswith("NAME")


def test_status_as_json() -> None:
    data = json.loads(json.dumps([status.as_data(found) for found in (STOPPED, RUNNING)]))
    assert [entry["running"] for entry in data] == [False, True]
    assert data[1]["processes"] == [{"pid": 12, "command": "sh -c x"}, {"pid": 13, "command": "vi"}]


def test_diagnosis() -> None:
    findings = (Finding("store", True), Finding("driver stub", False, "it failed", "do this"))
    works = doctor.text(Diagnosis(findings, "stub", "single"))
    assert works.splitlines() == [
        "store        works",
        "driver stub  no: it failed",
        "             -> do this",
        "New environments use the driver stub and the id map single.",
    ]
    assert doctor.text(Diagnosis(findings, "root", None)).endswith("use the driver root.")
    said = doctor.text(Diagnosis(findings, "fuse", "single", ("idmap", "copy")))
    assert said.endswith("\nOn a terminal you are asked first whether to use idmap or copy.")
    assert doctor.text(Diagnosis(findings, None, None)).endswith("No environment can be run here.")


def test_rebase() -> None:
    decision = PackageChoice("a", "host", "updated", old="1", new="2", own="1")
    planned = RebaseResult((decision,), ("look",), ("write /a",), done=False)
    assert shown.text(planned).splitlines() == [
        *("PACKAGE  VERSION     WHY", "a        the host's  updated  1 -> 2", "note: look", "write /a")
    ]
    assert "write" not in shown.text(replace(planned, done=True))
    stays = replace(decision, side="own", why="changed here", old="2", own="3")
    assert shown.text(RebaseResult((stays,), (), (), done=True)).splitlines() == [
        *(
            "PACKAGE  VERSION  WHY",
            "a        stays    changed here  2 (in the environment: 3)",
            "There is nothing to do.",
        )
    ]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a", None, "/b"), "No space left on device (ENOSPC)"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied (EACCES)"),
        (OSError(9999, "odd"), "odd (9999)"),
    ],
)
def test_reason(error: OSError, text: str) -> None:
    assert errors.reason(error) == text


def test_reason_of_an_error_without_number() -> None:
    assert "it is a symbolic link" in errors.reason(OSError("it is a symbolic link"))


def test_an_error_leaves_the_status_to_the_command_unless_told() -> None:
    assert (SysenvError("x").exit_status, SysenvError("x").hint) == (None, "")
    assert SysenvError("x", "y", 2).exit_status == 2
    assert str(SysenvError("x", "y")) == "x"


def test_history() -> None:
    snapshots = (
        Frozen("first", 1_700_000_000.0, 999, automatic=False, current=False),
        Frozen("before-rollback", 1_700_000_000.0, 212_400_000, automatic=True, current=True),
    )
    lines = history.text(History("proj", snapshots, 6_804_000_000)).splitlines()
    assert [line.split()[0] for line in lines] == ["SNAPSHOT", "first", "before-rollback", "(since)"]
    assert lines[1].endswith("999 B")
    assert lines[2].endswith("212 MB  now, kept by a rollback")
    assert lines[3].endswith("6.8 GB")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (123_456, "123 kB"), (999_999, "1.0 MB")],
)
def test_size(number: int, text: str) -> None:
    assert size(number) == text


def test_size_of_what_is_huge() -> None:
    assert size(10**16) == "10000 TB"

"""helpers/package-survey: what it installs, reports and ends with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .support import APT_LIMIT, Result, Tool, describe, ran

_BROKEN_TOOL = """\
#!/bin/sh
case $1 in
    exec) echo "Unpacking"; echo "dpkg: error processing package broken (--configure):"; exit 1 ;;
    status) echo '{"path": "/nonexistent"}' ;;
esac
"""


def survey(tool: Tool, directory: Path, packages: str, *options: str) -> Result:
    """Run the helper as the tool's user, in a directory of that user's; each package may take its time."""
    os.chown(directory, tool.account.uid, tool.account.gid)
    command = [str(tool.launcher.parent / "package-survey"), *options]
    limit = APT_LIMIT * len(packages.splitlines())
    return ran(command, packages, limit, cwd=directory, env=tool.variables(), **tool.account.become())


@pytest.fixture
def directory(shared: Path, tool: Tool) -> Path:
    path = shared / f"survey-{tool.mode}"
    path.mkdir(exist_ok=True)
    return path


@pytest.mark.modes("full", more=("single",))
@pytest.mark.parametrize(
    ("options", "installed"), [((), ["hello"]), (("--together",), ["hello", "sl"])], ids=["alone", "together"]
)
def test_report(tool: Tool, directory: Path, options: tuple[str, ...], installed: list[str]) -> None:
    packages = "\n".join(["# a comment", *installed, "no-such-package  # not in any archive", "hello\n"])
    options = (*options, "--id-map", tool.mode, "--report", "report.json", "--table", "table.md", "--logs", "logs")
    result = survey(tool, directory, packages, *options)
    assert result.returncode == 0, describe(result)
    report = {row["packages"]: row for row in json.loads((directory / "report.json").read_text())}
    expected = {**dict.fromkeys(installed, "ok"), "no-such-package": "absent"}
    assert {name: row["status"] for name, row in report.items()} == expected
    assert 50_000 < report["hello"]["bytes"] < 100_000_000
    assert "| no-such-package | absent |" in result.stdout
    number = len(expected)
    assert f"{number} of {number} without a failure" in (directory / "table.md").read_text()
    assert f"{number}/{number} done, 0 failed" in result.stderr
    assert "Unpacking hello" in (directory / "logs" / "hello.log").read_text()
    assert "survey-" not in tool.run("list").stdout


@pytest.mark.matrix
@pytest.mark.slow
@pytest.mark.modes("full")
def test_sample(tool: Tool, directory: Path) -> None:
    """Some of the list, from the first to the last."""
    lines = Path(tool.launcher.parent, "lists", "debian.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    sample = packages[:: max(len(packages) // 12, 1)]
    result = survey(tool, directory, "\n".join(sample), "--jobs", "1", "--report", "sample.json")
    report = json.loads((directory / "sample.json").read_text())
    assert [row for row in report if row["status"] in ("failed", "timeout")] == [], describe(result)
    assert len(report) == len(sample)


@pytest.mark.modes("full")
def test_failure(tool: Tool, directory: Path) -> None:
    broken = directory / "broken-tool"
    broken.write_text(_BROKEN_TOOL)
    broken.chmod(0o755)
    result = survey(tool, directory, "broken\n", "--tool", str(broken), "--jobs", "1")
    assert result.returncode == 1, describe(result)
    assert "| broken | failed | 0 | 0.0 | dpkg: error processing package broken (--configure): |" in result.stdout


@pytest.mark.modes("full")
def test_empty_list(tool: Tool, directory: Path) -> None:
    result = survey(tool, directory, "# nothing\n")
    assert (result.returncode, "the list is empty" in result.stderr) == (2, True)

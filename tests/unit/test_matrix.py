"""What helpers/test --summary makes of recorded runs."""

from __future__ import annotations

from pathlib import Path

import matrix
from matrix import Instance

_REPORT = """<testsuites><testsuite name="pytest">
<testcase classname="tests.integration.test_a" name="test_one[full-x]" time="1.5">{}</testcase>
<testcase classname="tests.integration.test_a" name="test_one[root-x]" time="2"><skipped message="no\nroot"/></testcase>
<testcase classname="tests.unit.test_b" name="test_two[root]" time="0.1"/>
</testsuite></testsuites>
"""
_TESTS = {
    *(Instance("tests/integration/test_a.py", f"test_one[{mode}-x]") for mode in ("full", "single", "root")),
    Instance("tests/unit/test_b.py", "test_two[root]"),
}


def _runs(directory: Path, *outcomes: str) -> list[matrix.Run]:
    paths = [directory / f"2026-01-0{day}T00:00:00 v1-{day}-gabc 6.18.1.xml" for day, _ in enumerate(outcomes, 1)]
    for path, outcome in zip(paths, outcomes, strict=True):
        path.write_text(_REPORT.format(outcome))
    return [matrix.read(path) for path in paths]


def test_each_test_is_as_it_was_the_last_time(tmp_path: Path) -> None:
    failed = '<failure message="assert 1 == 2">long</failure>'
    text = matrix.text(_runs(tmp_path, failed, ""), _TESTS)
    assert "4 tests: 2 passed, 1 skipped, 0 failed, 1 not run." in text
    assert "| integration/test_a.py |  | 1 | 1 not run | 1 skipped |  |  |  |  | 4 |" in text
    assert "| unit | 1 |  |  |  |  |  |  |  | 0 |" in text
    assert "- tests/integration/test_a.py::test_one[root-x]: no root\n" in text
    assert "- 2026-01-02T00:00:00, commit v1-2-gabc, Linux 6.18.1: 3 tests\n" in text
    assert "## Failed" not in text


def test_failures_are_told(tmp_path: Path) -> None:
    text = matrix.text(_runs(tmp_path, "", '<error message="setup"/>'), _TESTS)
    assert "1 failed" in text
    assert "## Failed\n\n- tests/integration/test_a.py::test_one[full-x]: setup\n" in text


def test_tests_that_are_no_more_do_not_count(tmp_path: Path) -> None:
    text = matrix.text(_runs(tmp_path, ""), {Instance("tests/unit/test_b.py", "test_two[root]")})
    assert "1 tests: 1 passed, 0 skipped, 0 failed, 0 not run." in text
    assert "integration/test_a" not in text

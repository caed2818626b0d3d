"""The pure parts of helpers/release-matrix: what it reads out of a report, and the table."""

from __future__ import annotations

from pathlib import Path

import release_matrix
from release_matrix import Result

_REPORT = """\
<testsuites><testsuite>
<testcase classname="tests.integration.test_core" name="test_a" />
<testcase classname="tests.integration.test_core" name="test_b[full]"><failure message="x">E</failure></testcase>
<testcase classname="tests.integration.test_core" name="test_c"><error message="x">E</error></testcase>
<testcase classname="tests.unit.test_x" name="test_d"><skipped message="there is no patch">x</skipped></testcase>
<testcase classname="tests.unit.test_x" name="test_e"><skipped message="the mode fuse does not work here: ['/x/ns',
 'create']: status 1&#10;&#10;sysenv-ns: fuse-overlayfs is not installed&#10;hint: install it">x</skipped></testcase>
<testcase classname="tests.unit.test_x" name="test_f"><skipped message="there is no patch">x</skipped></testcase>
</testsuite></testsuites>
"""
_FUSE = "the mode fuse does not work here: fuse-overlayfs is not installed"


def test_a_report(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(_REPORT)
    result = release_matrix.read("trixie", "core", tmp_path / "report.xml")
    assert result == Result(
        "trixie",
        "core",
        passed=1,
        failed=("test_core: test_b[full]", "test_core: test_c"),
        skipped={"there is no patch": 2, _FUSE: 1},
    )
    assert not result.is_good


def test_the_table_tells_what_was_not_run_what_failed_and_why_something_was_skipped() -> None:
    results = [
        Result("trixie", "core", 20),
        Result("trixie", "sync", 9, ("test_sync: test_z",), {_FUSE: 2, "other": 1}),
        Result("forky", "core", trouble="the system is not usable"),
        Result("forky", "sync", 10, (), {"other": 3}),
    ]
    systems = {"trixie": "Debian 13 (trixie)", "forky": "Debian forky", "noble": "noble"}
    text = release_matrix.document(systems, ("core", "sync"), results, "6.18.1")
    assert "all of them on Linux 6.18.1" in text
    assert "| release | core | sync |\n|---|---|---|\n" in text
    assert (
        "| Debian 13 (trixie) | 20 passed, 0 failed, 0 skipped | 9 passed, **1 failed**, 3 skipped (1, 2) |\n"
        "| Debian forky | **no report** | 10 passed, 0 failed, 3 skipped (2) |\n"
        "| noble | not run | not run |\n"
    ) in text
    assert f"1. {_FUSE}\n2. other\n" in text
    assert text.endswith("- trixie, sync: test_sync: test_z\n- forky, core: the system is not usable\n")

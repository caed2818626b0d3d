"""What nobody has foreseen: one sentence, a report that is the user's alone, and status 70."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from sysenv_ns import cli, failures, notices, remains, report, sudo
from sysenv_ns.apply import root
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, Unexpected
from sysenv_ns.kernel import children
from sysenv_ns.sudo import Caller

from .conftest import Run

_SENTENCE = re.compile(r"sysenv-ns: this is a bug in sysenv-ns \((\w+)\); a report is in (\S+)\n")


def _raise(error: BaseException) -> Callable[..., object]:
    def function(*arguments: object, **keywords: object) -> object:
        raise error

    return function


def _deep() -> object:
    return _deep()


def _report_of(result: Result, kind: str) -> str:
    assert (result.exit_code, result.stdout) == (70, "")
    assert "Traceback" not in result.stderr
    found = _SENTENCE.match(result.stderr)
    assert found, result.stderr
    assert found[1] == kind
    return found[2]


@pytest.mark.parametrize(
    "error",
    [
        KeyError("zfs"),
        RecursionError("deep"),
        MemoryError(),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"),
        ZeroDivisionError("\x1b[2J"),
        EOFError("no more"),
        RuntimeError("not click's"),
        StopIteration(),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("verb", ["list", "exec"])
def test_a_report_is_written(
    run: Run, environments: Store, error: Exception, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysenv_ns.status.all_of", _raise(error))
    monkeypatch.setattr(Store, "load", _raise(error))
    result = run(*{"list": ["list"], "exec": ["exec", "whole", "--", "mysql", "-psecret"]}[verb])
    path = Path(_report_of(result, type(error).__name__))
    assert path.parent == environments.path
    status = path.lstat()
    assert (stat.filemode(status.st_mode), status.st_uid) == ("-rw-------", os.geteuid())
    text = path.read_text()
    assert all(part in text for part in ("sysenv-ns 0.", "Python 3.", os.uname().release, type(error).__name__))
    assert re.search(r"test_last_resort\.py:\d+ \w+\.<locals>\.function|_raise\.", text)
    assert "\x1b" not in text


def test_deep_recursion_is_told_in_bearable_length(
    run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysenv_ns.status.all_of", lambda store, is_whole: _deep())
    path = Path(_report_of(run("list"), "RecursionError"))
    assert len(path.read_text().splitlines()) < 100


def test_errors_before_are_in_it(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(store: Store, is_whole: bool) -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    monkeypatch.setattr("sysenv_ns.status.all_of", fail)
    text = Path(_report_of(run("list"), "ValueError")).read_text()
    assert text.index("ValueError: second") < text.index("KeyError: 'first'")


def test_the_last_ones_are_kept(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysenv_ns.status.all_of", _raise(KeyError()))
    paths = [_report_of(run("list"), "KeyError") for _ in range(8)]
    left = [str(path) for path in environments.path.glob("sysenv-ns-report-*")]
    assert len(left) == 5
    assert set(left) <= set(paths)


@pytest.mark.parametrize("arguments", [("--verbose", "list"), ("list", "--json")])
def test_options_are_in_it(
    run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("sysenv_ns.status.all_of", _raise(KeyError()))
    monkeypatch.setattr(sys, "argv", ["sysenv-ns", *arguments])
    text = Path(_report_of(run(*arguments), "KeyError")).read_text()
    assert f"sysenv-ns {' '.join(arguments)}\n" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("exec", "--root", "e", "sh", "-psecret", "secret"), "exec --root ..."),
        (("exec", "e", "--", "secret"), "exec ..."),
        (("-v", "exec", "--driver", "stub", "secret", "--secret"), "-v exec --driver ..."),
        (("exec", "--ephemeral", "--", "secret"), "exec --ephemeral"),
        (("sync", "secret", "--yes", "--driver=secret"), "sync ... --yes --driver"),
        (("--request", "/secret", "apply"), "--request ... apply"),
        (("diff", "e", "--", "/etc/secret"), "diff ..."),
    ],
)
def test_names_and_commands_are_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["sysenv-ns", *arguments])
    path = report.write(Unexpected.of(KeyError()), tmp_path, None)
    assert path is not None
    text = Path(path).read_text()
    assert "secret" not in text
    assert f": sysenv-ns {told}\n" in text


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are, to a user."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(report, "_TEMPORARY", str(path))
    return path


def test_without_a_store_it_is_among_temporary_files(
    run: Run, store: Store, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysenv_ns.status.all_of", _raise(KeyError()))
    monkeypatch.setattr(remains, "remove", lambda store: None)
    assert Path(_report_of(run("list"), "KeyError")).parent == temporary
    assert not store.path.exists()


def test_a_store_that_is_a_link_gets_none(
    run: Run, store: Store, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    store.path.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("sysenv_ns.status.all_of", _raise(KeyError()))
    monkeypatch.setattr(remains, "remove", lambda store: None)
    assert Path(_report_of(run("list"), "KeyError")).parent == temporary
    assert not any((tmp_path / "elsewhere").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root acts for others")
def test_root_writes_for_a_caller_what_is_that_ones(tmp_path: Path, temporary: Path) -> None:
    caller = Caller(12345, 12346, (), 0o022, {})
    own, roots = tmp_path / "own", tmp_path / "roots"
    for path in (own, roots):
        path.mkdir()
    os.chown(own, caller.uid, caller.gid)
    (own / "sysenv-ns-report-0.txt").symlink_to("/etc/passwd")
    written = report.write(Unexpected.of(KeyError()), own, caller)
    assert written is not None
    status = os.lstat(written)
    assert (Path(written).parent, status.st_uid, status.st_gid, status.st_mode & 0o777) == (own, 12345, 12346, 0o600)
    elsewhere = report.write(Unexpected.of(KeyError()), roots, caller)  # behind a link of the caller's, for example
    assert elsewhere is not None
    assert Path(elsewhere).parent == temporary
    assert not any(roots.iterdir())


def test_no_report_is_no_traceback(run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr(report, "_TEMPORARY", str(tmp_path / "absent"))
    monkeypatch.setattr("sysenv_ns.status.all_of", _raise(KeyError()))
    monkeypatch.setattr(remains, "remove", lambda store: None)
    result = run("list")
    expected = "sysenv-ns: this is a bug in sysenv-ns (KeyError); no report could be written\n"
    assert (result.exit_code, result.stderr) == (70, expected)


def test_inside_an_environment_nothing_is_written(
    run: Run, environments: Store, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = iter([(0, 1), (0, 1), (0, 2)])
    monkeypatch.setattr(failures, "root", lambda: next(roots))
    monkeypatch.setattr("sysenv_ns.status.all_of", _raise(KeyError()))
    result = run("list")
    assert result.exit_code == 70
    assert "KeyError" in result.stderr
    assert not [*environments.path.glob("sysenv-ns-report-*"), *temporary.iterdir()]


def test_what_a_child_knows_is_in_it(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        children.call(_raise(KeyError("grandchild")), object, "test-grandchild")

    monkeypatch.setattr("sysenv_ns.status.all_of", lambda store, is_whole: children.run(fail, "test-child"))
    text = Path(_report_of(run("list"), "KeyError")).read_text()
    assert "KeyError: 'grandchild'" in text
    assert text.count(" call\n") >= 2


@pytest.mark.parametrize("result", [object(), {1, 2}, {(1,): 2}])
def test_a_result_that_cannot_be_handed_back_is_told(result: object) -> None:
    with pytest.raises(Unexpected) as raised:
        children.call(lambda: result, object, "test-child")
    assert raised.value.kind == "TypeError"


def test_what_roots_process_knows_is_in_it(
    run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(root, "_request", _raise(KeyError("of root")))
    assert root.main() == 1
    answer = capfd.readouterr().out

    def start(module: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "import sys; sys.stdin.read(); print(sys.argv[1], end='')", answer]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    monkeypatch.setattr(sudo, "start", start)
    text = Path(_report_of(run("apply", "--undo", "--dry-run"), "KeyError")).read_text()
    assert "KeyError: 'of root'" in text


def test_a_broken_installation_is_told(tmp_path: Path) -> None:
    """One module is missing, or is damaged."""
    for name, content in (("click.py", "raise ImportError('\\x1b[2J no click')"), ("click.py", "x = = 1")):
        (tmp_path / name).write_text(content)
        script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from sysenv_ns.__main__ import main; main()"
        package = Path(cli.__file__).parent.parent
        result = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path), "doctor"],
            capture_output=True,
            text=True,
            check=False,
            cwd=package,
        )
        assert (result.returncode, result.stdout) == (70, "")
        assert result.stderr.startswith("sysenv-ns: this installation is broken: ")
        assert result.stderr.count("\n") == 1
        assert "\x1b" not in result.stderr


def test_usage_errors_are_harmless(run: Run, store: Store) -> None:
    for arguments in (("\x1b[2J",), ("list", "\x1b[2J\u202e"), ("--\x1b[2J",), ("create", "a", "--driver", "\x9b2J")):
        result = run(*arguments)
        assert result.exit_code == 2
        assert all(letter.isprintable() or letter == "\n" for letter in result.output)


def test_messages_make_no_lines_of_their_own(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    error = SysenvError("a\nsysenv-ns: b\x1b[2J\udcff", "c\nhint: d\u202e")
    monkeypatch.setattr("sysenv_ns.status.all_of", _raise(error))
    result = run("list")
    assert result.exit_code == 1
    assert result.stderr == "sysenv-ns: a\n  sysenv-ns: b\\x1b[2J\\xff\nhint: c\n  hint: d\\u202e\n"


def test_a_failure_that_nobody_can_be_told_is_no_bug(
    run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window was closed: writing to its terminal is an error (EIO)."""
    monkeypatch.setattr(failures, "failure", _raise(OSError(errno.EIO, os.strerror(errno.EIO))))
    result = run("status", "nowhere")
    assert (result.exit_code, list(environments.path.glob("*report*"))) == (1, [])


@pytest.mark.parametrize(
    "arguments",
    [
        *("--version", "--help", "create --help", "help exec", "help create", "completion bash", "list --json"),
        *("host status", "host status --json", "list"),
    ],
)
def test_what_standard_output_leads_to_is_full(arguments: str, tmp_path: Path) -> None:
    """It is neither a bug, nor the store's disk; and Python has no last word, of another status."""
    tool = [sys.executable, "-m", "sysenv_ns", *arguments.split()]
    variables = {"PATH": os.environ["PATH"], "SYSENV_NS_HOME": str(tmp_path / "store")}
    directory = Path(cli.__file__).parents[1]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            tool, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=directory, env=variables
        )
    if arguments == "list":  # there is nothing to be listed
        assert (result.returncode, "no environments" in result.stderr) == (0, True)
        return
    assert result.returncode == 1, result.stderr
    sentence = "writing to standard output failed: No space left on device (ENOSPC)"
    if "--json" in arguments:
        assert json.loads(result.stderr)["error"]["message"] == sentence
    else:
        assert result.stderr == f"sysenv-ns: {sentence}\nhint: free some space where the output goes\n"


def test_a_result_that_is_not_written(capfd: pytest.CaptureFixture[str]) -> None:
    """As of the verbs that do without click."""
    kept, full = os.dup(1), os.open("/dev/full", os.O_WRONLY)
    try:
        os.dup2(full, 1)
        with pytest.raises(SysenvError, match="writing to standard output failed"):
            notices.result("something")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(full)

"""Completion in bash, as it is there: what follows what, and that nothing of the tool is run for it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from sysenv_ns import verbs
from sysenv_ns.environment.description import Environment, Snapshot
from sysenv_ns.environment.store import Store

from .conftest import Run

_ASK = r"""
source "$SCRIPT"
compopt() { :; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_sysenv_ns
printf '%s\n' "${COMPREPLY[@]}"
"""
_LAYER = "0123456789abcdef"


@pytest.fixture
def script(run: Run, tmp_path: Path) -> Path:
    """The script for bash."""
    path = tmp_path / "completion.bash"
    path.write_text(run("completion", "bash").stdout)
    return path


@pytest.fixture
def filled(environments: Store) -> Store:
    """The store with an environment `web` that has two snapshots, and programs in its changes and in a frozen layer."""
    staging = environments.trash / "web"
    for place in (staging / "upper", environments.layers / _LAYER / "upper"):
        (place / "usr/bin").mkdir(parents=True)
    (staging / "upper/usr/bin/zz-own").touch()
    (environments.layers / _LAYER / "upper/usr/bin/zz-frozen").touch()
    snapshots = tuple(Snapshot(label, 1.0, (), "web") for label in ("before", "working"))
    path = environments.envs / "web"
    web = Environment("web", "1", "root", None, 1.0, path, environments.path, (_LAYER,), snapshots)
    environments.add(web, staging)
    return environments


def _complete(script: Path, store: Store, *words: str, directory: Path = Path("/")) -> list[str]:
    """What bash offers for the last of these words. No program is found on the way."""
    variables = {"SCRIPT": str(script), "SYSENV_NS_HOME": str(store.path), "PATH": os.environ["PATH"], "HOME": "/"}
    command = ["bash", "--norc", "-c", _ASK, "bash", "sysenv-ns", *words]
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, cwd=directory)
    assert result.stderr == ""
    return sorted(result.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("stat",), ["status"]),
        (("st",), ["start", "status", "stop"]),
        (("--verb",), ["--verbose"]),
        (("-v", "stat"), ["status"]),
        (("status", ""), ["damaged", "web", "whole"]),
        (("status", "w"), ["web", "whole"]),
        (("rm", "d"), ["damaged"]),
        (("remove", "web", "wh"), ["whole"]),
        (("shell", "--driver", "s"), ["stub"]),
        (("shell", "--driver", "stub", "we"), ["web"]),
        (("enter", "--eph"), ["--ephemeral"]),
        (("rollback", "web", ""), ["before", "working"]),
        (("rollback", "whole", ""), []),
        (("snapshot", "--delete", "web", "w"), ["working"]),
        (("clone", "we"), ["web"]),
        (("clone", "web", "w"), []),
        (("create", "w"), []),
        (("completion", ""), ["bash", "fish", "zsh"]),
        (("help", "snap"), ["snapshot"]),
        (("exec", "web", "--", "zz-"), ["zz-frozen", "zz-own"]),
        (("run", "--me", "web", "--", "zz-o"), ["zz-own"]),
        (("exec", "whole", "--", "zz-"), []),
        (("which", "web", "zz-o"), ["zz-own"]),
        (("diff", "web", "--", "/etc/hostn"), ["/etc/hostname"]),
        (("exec", "web", "--", "cat", "/etc/hostn"), ["/etc/hostname"]),
        (("nonsense", ""), []),
    ],
    ids=" ".join,
)
def test_in_bash(script: Path, filled: Store, words: tuple[str, ...], expected: list[str]) -> None:
    assert _complete(script, filled, *words) == expected


def test_stop_offers_what_runs(script: Path, filled: Store) -> None:
    (filled.envs / "web/state.json").write_text(f'{{"pid": {os.getpid()}, "start_time": 1}}')
    (filled.envs / "whole/state.json").write_text('{"pid": 4194305, "start_time": 1}')  # above PID_MAX_LIMIT
    assert _complete(script, filled, "stop", "") == ["web"]
    assert _complete(script, filled, "status", "w") == ["web", "whole"]


@pytest.mark.parametrize(
    "hostile",
    [
        "@command x[$(touch zz-made)]",
        "zz\n@command x[$(touch zz-made)]",
        "@files",
        "zz;touch zz-made",
        "zz$(touch zz-made)",
        "zz`touch zz-made`",
        "zz zz-made",
        "zz*",
        "zz\x1b]0;x\x07",
    ],
    ids=repr,
)
def test_names_in_an_environment_are_nothing_but_names(
    script: Path, filled: Store, tmp_path: Path, hostile: str
) -> None:
    """Whoever made an archive chose them, and a shell would evaluate them, or put them into the line."""
    for place in (filled.envs / "web/upper/usr/bin", filled.layers / _LAYER / "upper/usr/bin"):
        (place / hostile).touch()
    script.write_text(f"{script.read_text()}\n_command_offset() {{ :; }}\n")  # as bash-completion has it
    beginning = hostile[:2]
    offered = _complete(script, filled, "exec", "web", "--", beginning, directory=tmp_path)
    assert offered == (["zz-frozen", "zz-own"] if beginning == "zz" else [])
    assert not (tmp_path / "zz-made").exists()


def test_programs_of_the_host_are_offered_too(script: Path, filled: Store) -> None:
    assert "bash" in _complete(script, filled, "exec", "web", "--", "bas")


def test_every_verb_and_option_is_known(run: Run, script: Path, store: Store) -> None:
    assert _complete(script, store, "") == sorted(verbs.NAMES)
    for name in verbs.NAMES:
        shown = set(re.findall(r"(?<![\w-])--[a-z-]+", run(name, "--help").stdout.partition("Options:")[2]))
        offered = set(_complete(script, store, name, "-"))
        options = {
            option for p in verbs.load(name).params for option in (*p.opts, *p.secondary_opts) if option[0] == "-"
        }
        hidden = {option for p in verbs.load(name).params if getattr(p, "hidden", False) for option in p.opts}
        assert offered == (options - hidden) | {"-h", "--help"}
        assert offered & shown

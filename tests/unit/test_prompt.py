"""How shells are made to show the environment in their prompt."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sysenv_ns import prompt
from sysenv_ns.host import prompts
from sysenv_ns.prompt import Prompt

GIVEN = {"SYSENV_NS": "proj"}


@pytest.mark.parametrize(("root", "expected"), [(False, "(proj) $ "), (True, "(proj) # ")])
@pytest.mark.parametrize("shell", ["/bin/dash", "/bin/sh", "/usr/bin/mksh"])
def test_shells_of_posix(shell: str, root: bool, expected: str) -> None:
    assert prompt.of(shell, GIVEN, root) == Prompt(variables={"PS1": expected})


@pytest.mark.parametrize("shell", ["/usr/bin/nu", ""])
def test_others_are_left_alone(shell: str) -> None:
    assert prompt.of(shell, GIVEN, False) == Prompt()


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/dash", "/usr/bin/zsh"])
def test_what_the_user_has_set_stays(shell: str) -> None:
    assert prompt.of(shell, GIVEN | {"SYSENV_NS_DISABLE_PROMPT": "1"}, False) == Prompt()
    assert prompt.of("/bin/dash", GIVEN | {"PS1": "mine"}, False) == Prompt()


@pytest.mark.parametrize("given", [{}, {"ZDOTDIR": "/home/me/zsh"}])
def test_zsh(given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "ZSH_DIRECTORY", str(tmp_path))
    assert prompt.of("/usr/bin/zsh", GIVEN | given, False) == Prompt()  # else it would read no file of the user's
    (tmp_path / ".zshenv").touch()
    kept = {f"SYSENV_NS_{name}": value for name, value in given.items()}
    assert prompt.of("/usr/bin/zsh", GIVEN | given, False) == Prompt(variables={"ZDOTDIR": str(tmp_path), **kept})


@pytest.mark.parametrize(
    ("shell", "name", "options"),
    [("bash", "BASHRC", ("--rcfile", "FILE")), ("fish", "FISH_FILE", ("--init-command", "source FILE"))],
)
def test_a_file_to_read(
    shell: str, name: str, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    monkeypatch.setattr(prompt, name, str(file))
    assert prompt.of(f"/bin/{shell}", GIVEN, False) == Prompt()
    file.touch()
    expected = tuple(option.replace("FILE", str(file)) for option in options)
    assert prompt.of(f"/bin/{shell}", GIVEN, False) == Prompt(options=expected)


@pytest.mark.parametrize(
    ("rc", "after"),
    [
        ("PS1='plain> '", "(proj) plain> "),
        ("PS1='(proj) plain> '", "(proj) plain> "),
        ("PS1='${debian_chroot:+($debian_chroot)}> '", "${debian_chroot:+($debian_chroot)}> "),
        (r"PS1='\n\n\u> '", "\n\n(proj) \\u> "),
        ("theme() { PS1='theme> '; }; PROMPT_COMMAND=theme", "(proj) theme> "),
        ("theme() { PS1=$'\\ntheme '$?; }; PROMPT_COMMAND='true;theme;'", "\n(proj) theme 0"),
        ("PROMPT_COMMAND=('' 'PS1=array'); return 3", "(proj) array"),
    ],
)
def test_the_file_for_bash(rc: str, after: str, tmp_path: Path) -> None:
    """With what people and themes have in theirs; the second time changes nothing, and $? is kept."""
    (tmp_path / ".bashrc").write_text(f"{rc}\n")
    (file,) = (found for found in prompts.additions() if f"/{found.path}" == prompts.BASHRC)
    (tmp_path / "ours").write_text(file.content)
    script = """
        source "$1"
        for turn in 1 2; do
            for command in "${PROMPT_COMMAND[@]}"; do eval "$command"; done
        done
        (exit 7); _sysenv_ns_prompt; [ $? = 7 ] && printf %s "$PS1"
    """
    shell = ["bash", "-c", script, "bash", str(tmp_path / "ours")]
    variables = GIVEN | {"HOME": str(tmp_path)}
    assert subprocess.run(shell, env=variables, capture_output=True, text=True, check=True).stdout == after

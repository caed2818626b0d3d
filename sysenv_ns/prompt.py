"""How a shell shows the environment's name in its prompt: by variables and options that it gets; writes no file.

bash, zsh and fish are given a file of the environment (host/prompts.py) beside the user's own, which sees before each
prompt, after all that themes do, that the name is there. The shells of POSIX take PS1 from the environment.
SYSENV_NS_DISABLE_PROMPT, if it is not empty, leaves all prompts as they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sysenv_ns.host.prompts import BASHRC, FISH_FILE, ZSH_DIRECTORY
from sysenv_ns.records import dataclass, field

DISABLED = "SYSENV_NS_DISABLE_PROMPT"
_POSIX = ("ash", "dash", "ksh", "mksh", "sh")


@dataclass(frozen=True)
class Prompt:
    """What a shell gets besides what it is given."""

    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def of(shell: str, given: Mapping[str, str], root: bool) -> Prompt:
    """What the shell with this path gets; the environment's name is in SYSENV_NS.

    Called inside the environment, which may lack the files.
    """
    if given.get(DISABLED):
        return Prompt()
    program = shell.rpartition("/")[2]
    if program == "bash" and os.access(BASHRC, os.R_OK):
        return Prompt(options=("--rcfile", BASHRC))
    if program == "fish" and os.access(FISH_FILE, os.R_OK):
        return Prompt(options=("--init-command", f"source {FISH_FILE}"))
    if program in _POSIX and "PS1" not in given:
        return Prompt(variables={"PS1": f"({given.get('SYSENV_NS', '')}) {'#' if root else '$'} "})
    if program == "zsh" and os.access(f"{ZSH_DIRECTORY}/.zshenv", os.R_OK):
        own = {"SYSENV_NS_ZDOTDIR": given["ZDOTDIR"]} if "ZDOTDIR" in given else {}
        return Prompt(variables={"ZDOTDIR": ZSH_DIRECTORY, **own})
    return Prompt()

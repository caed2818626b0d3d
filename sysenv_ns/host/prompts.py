"""The files by which shells show an environment's name in their prompt: contents only, nothing is written here.

Debian's and Ubuntu's bashrc read /etc/debian_chroot. Who has another prompt has it from these: they read or leave alone
the user's own files, and put the name before what those have made, unless it is there.
"""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.host.base_files import Addition

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where zsh is sent for its first file, when ZDOTDIR says so (prompt.py); zsh(1), STARTUP/SHUTDOWN FILES.
ZSH_DIRECTORY = "/usr/lib/sysenv-ns/zsh"
# All other files are the user's, read by zsh itself: by then ZDOTDIR is as it was given.
_ZSHENV = """\
# Made by sysenv-ns: reads your own .zshenv, and lets the prompt show the name of the environment.
if [[ -n ${SYSENV_NS_ZDOTDIR+given} ]]; then
    export ZDOTDIR=$SYSENV_NS_ZDOTDIR
    unset SYSENV_NS_ZDOTDIR
else
    unset ZDOTDIR
    # The system's file may choose a directory for users who have none, and has not seen that: it is read again.
    if [[ -r /etc/zsh/zshenv ]]; then
        [[ "$(</etc/zsh/zshenv)" != *ZDOTDIR* ]] || source /etc/zsh/zshenv
    elif [[ -r /etc/zshenv ]]; then
        [[ "$(</etc/zshenv)" != *ZDOTDIR* ]] || source /etc/zshenv
    fi
fi
if [[ -o interactive ]]; then
    _sysenv_ns_prompt() {
        emulate -L zsh
        # After those of themes, which make the prompt anew each time.
        precmd_functions=(${precmd_functions:#_sysenv_ns_prompt} _sysenv_ns_prompt)
        [[ $PROMPT != *"($SYSENV_NS)"* && $PROMPT != *debian_chroot* ]] || return 0
        local before=
        while [[ $PROMPT == $'\\n'* ]]; do
            before+=$'\\n' PROMPT=${PROMPT#?}
        done
        PROMPT="$before($SYSENV_NS) $PROMPT"
    }
    precmd_functions+=(_sysenv_ns_prompt)
fi
[[ ! -r ${ZDOTDIR-$HOME}/.zshenv ]] || source "${ZDOTDIR-$HOME}/.zshenv"
"""

# What bash is told to read instead of the user's file (prompt.py); bash(1), INVOCATION.
BASHRC = "/usr/lib/sysenv-ns/bash/bashrc"
_BASHRC = """\
# Made by sysenv-ns: reads your own .bashrc, and lets the prompt show the name of the environment.
[[ ! -r ~/.bashrc ]] || source ~/.bashrc
_sysenv_ns_prompt() {
    local status=$? before=
    if [[ $PS1 != *"($SYSENV_NS)"* && $PS1 != *debian_chroot* ]]; then
        while [[ $PS1 == $'\\n'* || $PS1 == '\\n'* ]]; do
            [[ $PS1 == $'\\n'* ]] || PS1=${PS1#?}
            before+=$'\\n' PS1=${PS1#?}
        done
        PS1="$before($SYSENV_NS) $PS1"
    fi
    return $status
}
# After what themes do there, who make the prompt anew each time.
if (( BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501 )); then
    PROMPT_COMMAND+=(_sysenv_ns_prompt)
else
    PROMPT_COMMAND=${PROMPT_COMMAND:+$PROMPT_COMMAND$'\\n'}_sysenv_ns_prompt
fi
"""

# What fish is told to read after the user's files (prompt.py), when fish_prompt is that of the user or of a theme.
FISH_FILE = "/usr/lib/sysenv-ns/fish/prompt.fish"
_FISH = """\
# Made by sysenv-ns: lets the prompt show the name of the environment, whatever makes it.
set -g __fish_machine # what fish's own shows of /etc/debian_chroot
functions --copy fish_prompt _sysenv_ns_theme
function _sysenv_ns_status
    return $argv[1]
end
function fish_prompt
    set -l before $status
    set -l shown (_sysenv_ns_status $before; _sysenv_ns_theme | string collect -N)
    if not string match -q -- "*($SYSENV_NS)*" $shown
        set shown (string replace -r '^(\\n*)' "\\$1($SYSENV_NS) " -- $shown | string collect -N)
    end
    printf %s $shown
end
"""


def additions() -> Iterator[Addition]:
    """The files for shells, which are the same in all environments."""
    for path, text in ((f"{ZSH_DIRECTORY}/.zshenv", _ZSHENV), (BASHRC, _BASHRC), (FISH_FILE, _FISH)):
        yield Addition(path[1:], 0o644, text)

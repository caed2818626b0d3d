"""The scripts: one function for all shells finds what can follow, and each shell has its own way to call it.

Nothing of the tool is run for a TAB: Python alone would take longer than a key may. So the function looks at the store
itself. It gets the words up to the cursor, and prints what the last one can be: a line for each, with a tab and what is
said of it. `@files` stands for names of files, and `@command N` for a command line of its own that begins at word N.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sysenv_ns.completion.grammar import CompletedOption, CompletedVerb, lines

SHELLS = ("bash", "zsh", "fish")

_HEAD = "# Made by `sysenv-ns completion {shell}`: completion for sysenv-ns.\n"

_COMMON = r"""
__sysenv_ns_stores() {
    if [ -n "$SYSENV_NS_HOME" ]; then own=$SYSENV_NS_HOME
    elif [ -n "$XDG_DATA_HOME" ]; then own=$XDG_DATA_HOME/sysenv-ns
    else own=$HOME/.local/share/sysenv-ns
    fi
    uid=${UID:-$(id -u)}
    set -- "$own"
    for kept in /var/lib/sysenv-ns/users/"$uid"/????????; do
        [ ! -d "$kept/envs" ] || set -- "$@" "$kept"
    done
    for store in "$@"; do
        printf '%s\n' "$store"
    done
}

# Who makes an environment or an archive of one chooses names in it. A shell evaluates what is a number to it, and puts
# other names into the line as they are: so only those are offered that are plain words to all shells.
__sysenv_ns_offer() { # NAME WHAT
    case $1 in
        '' | *[!0-9A-Za-z_.,:+@%/-]* | @*) ;;
        *) printf '%s\t%s\n' "$1" "$2" ;;
    esac
}

__sysenv_ns_environments() { # running, or all
    __sysenv_ns_stores | while IFS= read -r store; do
        for place in "$store"/envs/*; do
            [ -d "$place" ] || continue
            state=
            if [ -r "$place/state.json" ]; then
                IFS= read -r state < "$place/state.json" || :
                state=${state#*'"pid": '}
                state=${state%%[!0-9]*}
                [ -n "$state" ] && [ -d "/proc/$state" ] || state=
            fi
            if [ -n "$state" ]; then
                __sysenv_ns_offer "${place##*/}" running
            elif [ "$1" = all ]; then
                __sysenv_ns_offer "${place##*/}" environment
            fi
        done
    done
}

__sysenv_ns_removed() { # those that can be restored, each name once
    __sysenv_ns_stores | while IFS= read -r store; do
        name=
        for place in "$store"/removed/*@*; do
            [ -d "$place" ] || continue
            place=${place##*/}
            [ "$name" = "${place%@*}" ] || __sysenv_ns_offer "${place%@*}" removed
            name=${place%@*}
        done
    done
}

__sysenv_ns_values() { # FILE KEY: the texts that a file of the tool's has for a key
    text=
    [ ! -r "$1" ] || IFS= read -r text < "$1" || :
    while :; do
        case $text in
            *"\"$2\": \""*) text=${text#*"\"$2\": \""} ;;
            *) break ;;
        esac
        __sysenv_ns_offer "${text%%\"*}" "$2"
    done
}

__sysenv_ns_of() { # NAME: where an environment lies
    __sysenv_ns_stores | while IFS= read -r store; do
        [ ! -d "$store/envs/$1" ] || printf '%s\n' "$store/envs/$1"
    done
}

__sysenv_ns_programs() { # NAME BEGINNING: the environment's own programs
    __sysenv_ns_of "$1" | while IFS= read -r place; do
        text=
        [ ! -r "$place/env.json" ] || IFS= read -r text < "$place/env.json" || :
        text=${text#*'"layers": ['}
        set -- "$place" "$2"
        for directory in usr/local/bin usr/local/sbin usr/bin usr/sbin usr/games; do
            for program in "$place/upper/$directory/$2"*; do
                [ ! -f "$program" ] || __sysenv_ns_offer "${program##*/}" "in the environment"
            done
            case ${text%%]*} in *[!0-9a-f\",\ ]*) continue ;; esac
            for layer in $(printf '%s' "${text%%]*}" | tr -d '", ' | sed 's/.\{16\}/& /g'); do
                for program in "${place%/envs/*}/layers/$layer/upper/$directory/$2"*; do
                    [ ! -f "$program" ] || __sysenv_ns_offer "${program##*/}" "in the environment"
                done
            done
        done
    done
}

__sysenv_ns_argument() { # KIND NAME CURRENT
    case $1 in
        environment) __sysenv_ns_environments all ;;
        --undo) __sysenv_ns_removed ;;
        --purge) __sysenv_ns_environments all; __sysenv_ns_removed ;;
        running) # what has been started by a process that lives; a start that has ended says nothing about the rest
            running=$(__sysenv_ns_environments running)
            if [ -n "$running" ]; then printf '%s\n' "$running"; else __sysenv_ns_environments all; fi ;;
        snapshot)
            __sysenv_ns_of "$2" | while IFS= read -r place; do __sysenv_ns_values "$place/env.json" label; done ;;
        link) __sysenv_ns_of "$2" | while IFS= read -r place; do __sysenv_ns_values "$place/links.json" command; done ;;
        program) __sysenv_ns_programs "$2" "$3"; echo @programs ;;
        verb) __sysenv_ns_verbs ;;
        file) echo @files ;;
    esac
}

__sysenv_ns_complete() { # WORD... CURRENT, without the tool's own name
    IFS=' ' verb= name= count=0 value= only= number=0 former=
    while [ $# -gt 1 ]; do
        number=$((number + 1))
        if [ -n "$value" ]; then
            value=
        elif [ -z "$verb" ]; then
            case $1 in
                -*) ;;
                *) verb=$(__sysenv_ns_canonical "$1") ;;
            esac
        else
            case $only$1 in
                --)
                    only=: ;;
                -*=*) ;;
                -*)
                    case $verb,$1 in remove,--undo | remove,--purge) former=@$1 ;; esac
                    value=$(__sysenv_ns_value "$verb" "$1") ;;
                *)
                    count=$((count + 1))
                    [ $count -gt 1 ] || name=$1 ;;
            esac
            if [ "$verb" = exec ] && { [ $count -gt 1 ] || [ "$only" = : ]; }; then
                [ "$1" != -- ] || number=$((number + 1))
                if [ $# -gt 2 ] || [ "$1" != -- ]; then
                    printf '@command %s\n' "$number"
                else
                    __sysenv_ns_argument program "$name" "$2"
                fi
                return
            fi
        fi
        shift
    done
    if [ -n "$value" ]; then
        case $value in
            @*) __sysenv_ns_argument "${value#@}" "$name" "$1" ;;
            *) printf '%s\n' $value ;;
        esac
        return
    fi
    case $verb,$only$1 in
        ,-*) __sysenv_ns_options "" ;;
        ,*) __sysenv_ns_verbs ;;
        *,-*) __sysenv_ns_options "$verb" ;;
        *)
            kind=${former:-$(__sysenv_ns_kind "$verb" $((count + 1)))}
            case $kind in
                @*) __sysenv_ns_argument "${kind#@}" "$name" "$1" ;;
                ?*) printf '%s\n' $kind ;;
            esac ;;
    esac
}
"""

_BASH = r"""
_sysenv_ns() {
    local line IFS=$'\n' current=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    COMPREPLY=()
    for line in $(__sysenv_ns_complete "${words[@]}"); do
        line=${line%%$'\t'*}
        case $line in
            @files) COMPREPLY+=($(compgen -f -- "$current")); compopt -o filenames ;;
            @programs) COMPREPLY+=($(compgen -c -- "$current" | sort -u)) ;;
            "@command "*)
                if declare -F _comp_command_offset > /dev/null; then
                    unset IFS; _comp_command_offset "$((${line#* } + 0))"
                elif declare -F _command_offset > /dev/null; then
                    unset IFS; _command_offset "$((${line#* } + 0))"
                else
                    COMPREPLY+=($(compgen -f -- "$current")); compopt -o filenames
                fi ;;
            "$current"*) COMPREPLY+=("$line") ;;
        esac
    done
}
complete -F _sysenv_ns sysenv-ns
"""

_ZSH = r"""
_sysenv_ns() {
    local line value
    local -a given found described
    given=("${(@)words[2,CURRENT]}")
    found=("${(@f)$(emulate -L sh; __sysenv_ns_complete "${given[@]}")}")
    for line in "${(@)found}"; do
        case $line in
            '') ;;
            @files) _files ;;
            @programs) _command_names -e ;;
            '@command '*)
                shift $((${line#* })) words
                ((CURRENT -= ${line#* }))
                _normal
                return ;;
            *$'\t'*)
                value=${line%%$'\t'*}
                described+=("${value//:/\\:}:${line#*$'\t'}") ;;
            *) described+=("${line//:/\\:}") ;;
        esac
    done
    ((! $#described)) || _describe sysenv-ns described
}
if [ "$funcstack[1]" = _sysenv-ns ]; then
    _sysenv_ns "$@"
else
    compdef _sysenv_ns sysenv-ns
fi
"""

_FISH = r"""
function __sysenv_ns_fish
    set -l words (commandline -opc) (commandline -ct)
    for line in (sh -c $__sysenv_ns_script sysenv-ns $words[2..])
        switch $line
            case @files
                __fish_complete_path (commandline -ct)
            case @programs
                __fish_complete_command
            case '@command *'
                set -l first (math (string split ' ' $line)[2] + 1)
                complete -C (string join ' ' -- (string escape -- $words[$first..-2]) (commandline -ct))
            case '*'
                printf '%s\n' $line
        end
    end
end
complete -c sysenv-ns -f -a '(__sysenv_ns_fish)'
"""


def script(
    shell: str, options: Sequence[CompletedOption], verbs: Sequence[CompletedVerb], aliases: Mapping[str, str]
) -> str:
    """The script of a shell."""
    common = _COMMON + "".join(_functions(options, verbs, aliases))
    head = _HEAD.format(shell=shell)
    if shell == "bash":
        return head + common + _BASH
    if shell == "zsh":
        return f"#compdef sysenv-ns\n{head}{common}{_ZSH}"
    quoted = (common + '\n__sysenv_ns_complete "$@"\n').replace("\\", "\\\\").replace("'", "\\'")
    return f"{head}set -g __sysenv_ns_script '{quoted}'\n{_FISH}"


def _functions(
    options: Sequence[CompletedOption], verbs: Sequence[CompletedVerb], aliases: Mapping[str, str]
) -> Iterator[str]:
    whole = CompletedVerb("", "", tuple(options), ())
    yield _function("canonical", _case("$1", [(a, f"echo {v}") for a, v in aliases.items()], "printf '%s\\n' \"$1\""))
    yield _function("verbs", _printed(f"{verb.name}\t{verb.text}" for verb in verbs))
    yield _function("options", _case("$1", [(verb.name, _printed(lines(verb))) for verb in (whole, *verbs)]))
    values = [
        (f"{verb.name},{name}", f"echo {shlex.quote(_words(option.value, option.choices, verb.name))}")
        for verb in (whole, *verbs)
        for option in verb.options
        if option.value is not None
        for name in option.names
    ]
    yield _function("value", _case("$1,$2", values))
    kinds = [
        (f"{verb.name},{'*' if argument.repeated else number}", f"echo {shlex.quote(word)}")
        for verb in verbs
        for number, argument in enumerate(verb.arguments, start=1)
        if (word := _words(argument.kind, argument.choices, verb.name))
    ]
    yield _function("kind", _case("$1,$2", kinds))


def _words(kind: str, choices: Sequence[str], verb: str) -> str:
    """Some words, or `@` and what it is."""
    if kind == "choice":
        return " ".join(choices)
    return "@running" if (verb, kind) == ("stop", "environment") else f"@{kind}"


def _function(name: str, body: str) -> str:
    inner = "".join(f"    {line}\n" for line in body.splitlines())
    return f"\n__sysenv_ns_{name}() {{\n{inner}}}\n"


def _case(subject: str, branches: Iterable[tuple[str, str]], otherwise: str = "") -> str:
    found = [f"    {_pattern(pattern)}) {body} ;;" for pattern, body in branches]
    return "\n".join([f"case {subject} in", *found, *([f"    *) {otherwise} ;;"] if otherwise else []), "esac"])


def _pattern(text: str) -> str:
    return text if text else '""'


def _printed(words: Iterable[str]) -> str:
    return " ".join(["printf '%s\\n'", *map(shlex.quote, words)])

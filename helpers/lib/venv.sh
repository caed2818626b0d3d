# Makes the virtual environment of a checkout; sourced by helpers/sysenv-ns and helpers/test, which set $helpers.
# Everything it has to say goes to stderr. POSIX sh.

# say SENTENCE
say() {
    echo "sysenv-ns: $1" >&2
}

# fail SENTENCE HINT: the tool's own form of an error, and its status for "failed before the command ran"
fail() {
    say "$1"
    echo "hint: $2" >&2
    exit 125
}

# find_program NAME: also in the system directories that an ordinary user's PATH often lacks
find_program() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1"
}

# prepare_venv [EXTRA [lowest]]: sets $venv to a virtual environment that has the project's dependencies (with those of
# EXTRA) and the checkout itself, and makes or updates it when needed. lowest: another one, with the lowest versions of
# the dependencies that pyproject.toml allows.
prepare_venv() {
    extra=${1-}
    versions=${2-}
    ready=.ready${extra:+-$extra}
    checkout=$(CDPATH='' cd -- "$helpers/.." && pwd -P)
    venv=$checkout/.venv${versions:+-$versions}
    if _is_ready; then
        return
    fi
    owner=$(stat -c %u -- "$checkout")
    if [ "$(id -u)" = 0 ] && [ "$owner" != 0 ] && [ "$owner" = "${SUDO_UID-}" ]; then
        # The caller's own, by sudo: nobody else but root could delete what root makes there.
        # shellcheck disable=SC2016
        sudo -H -u "#$owner" -- sh -uc 'helpers=$1 yes=$2 && shift 2 && . "$helpers/lib/venv.sh" && prepare_venv "$@"' \
            sh "$helpers" "${yes-}" "$extra" "$versions" || exit
        ! _is_ready || return 0
    fi
    if [ ! -w "$checkout" ]; then
        # A clone that belongs to somebody else: the caller's own cache has room.
        venv=$(_cache)/sysenv-ns/venv-$(printf %s "$checkout" | sha256sum | cut -c1-12)${versions:+-$versions}
        if _is_ready; then
            return
        fi
    elif [ -e "$venv" ] && [ ! -w "$venv" ]; then
        fail "$venv was made by another user and cannot be used by you" "remove it: sudo rm -r $venv"
    fi
    _build_venv
}

# Where the caller's caches are. The XDG specification: a relative path is invalid; services have no HOME.
_cache() {
    home=$(getent passwd "$(id -u)" | cut -d: -f6)
    for place in "${XDG_CACHE_HOME-}" "${HOME:+$HOME/.cache}" "${home:-/nonexistent}/.cache"; do
        case $place in
        /*)
            echo "$place"
            return
            ;;
        esac
    done
}

# Whether $venv has what this pyproject.toml asks for, as far as the caller can use it.
_is_ready() {
    [ -x "$venv/bin/python" ] && [ -r "$venv/$ready" ] && [ ! -e "$venv/.unfinished" ] || return 1
    [ ! "$venv/$ready" -nt "$checkout/pyproject.toml" ] || return 0
    # Newer, but perhaps only touched by a checkout of the same text.
    cmp -s "$venv/$ready" "$checkout/pyproject.toml" || return 1
    touch -c "$venv/$ready" 2>/dev/null || :
}

# One builds, the others wait. In place, as a virtual environment cannot be moved; the file $ready comes last, and what
# an interruption left is recognised by .unfinished.
_build_venv() {
    previous_umask=$(umask)
    umask 022 # other users of this checkout may share it
    mkdir -p "$venv" || fail "$venv cannot be made" "use a checkout that belongs to you"
    find_program flock >/dev/null || fail "flock is not installed" "install util-linux"
    exec 9>"$venv/.lock" || fail "$venv cannot be written" "remove it: sudo rm -r $venv"
    flock 9
    if ! _is_ready; then
        _need_system_packages
        say "setting up $venv, this takes a moment"
        _need_python_packages
    fi
    exec 9>&-
    umask "$previous_umask"
}

_need_python_packages() {
    if [ ! -x "$venv/bin/python" ] || [ -e "$venv/.unfinished" ]; then
        # The lock stays: others may be waiting for it.
        find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
        : >"$venv/.unfinished"
        # By the name with its version: after an upgrade of Python it is gone, and the environment is made anew.
        real=$("$python" -I -c 'import os, sys; print(os.path.realpath(sys.executable))')
        _logged "$real" -I -m venv --without-pip "$venv"
    fi
    : >"$venv/.unfinished"
    # Not `pip install -e`: that writes into the checkout, which may belong to somebody else.
    _fill_venv || {
        [ $? = 3 ] || fail "$venv cannot be set up; the reason is above" "repair the cause and run this again"
        _need_compiler
        _fill_venv compile || fail "$venv cannot be set up; the reason is above" "repair the cause and run this again"
    }
    say "$output"
    cp "$checkout/pyproject.toml" "$venv/$ready" && rm "$venv/.unfinished"
}

# _fill_venv [compile]: sets $output to a sentence about what was done
_fill_venv() {
    output=$("$venv/bin/python" -I "$helpers/lib/dependencies.py" "$checkout" "$extra" $versions "$@" </dev/null)
}

# _logged COMMAND...: quiet unless it fails
_logged() {
    output=$("$@" 2>&1 </dev/null) && return
    echo "$output" >&2
    fail "$(basename "$1") failed; its messages are above" "repair the cause and run this again"
}

# Sets $python; asks for what cannot be had without root.
_need_system_packages() {
    if ! _find_python; then
        if [ -e /usr/bin/python3 ]; then
            install_packages python3.11 # the system's own is older
        else
            install_packages python3
        fi
        _find_python || fail "there is no Python 3.11 or later here" "install one, as /usr/bin/python3.11 for example"
    fi
    "$python" -I -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")' 2>/dev/null || install_packages libseccomp2
}

# For what there is no wheel of, on machines of a rare kind.
_need_compiler() {
    package=python3
    case $python in
    /usr/bin/python3.*) package=${python##*/} ;;
    esac
    missing=
    find_program gcc >/dev/null || find_program cc >/dev/null || missing="$missing gcc"
    [ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
    "$python" -I -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
        missing="$missing $package-dev"
    # shellcheck disable=SC2086 # several words
    [ -z "$missing" ] || install_packages $missing
}

# A Python that the caller can execute. The system's own first: one that lies below a home is out of others' reach.
_find_python() {
    for python in /usr/bin/python3 /usr/bin/python3.14 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 \
        /usr/local/bin/python3 "$(command -v python3)"; do
        # Debian's python3-minimal lacks most of the library.
        if [ -x "$python" ] &&
            "$python" -I -c 'import ctypes, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return 0
        fi
    done
    return 1
}

# install_packages NAME...: with apt-get, after a question or with --yes ($yes); else an error that says what to install
install_packages() {
    need="this needs packages that are not installed: $*"
    if ! command -v apt-get >/dev/null; then
        fail "$need (Debian's names)" "install your system's packages for these"
    fi
    as_root=
    if [ "$(id -u)" != 0 ]; then
        as_root=sudo
        [ -n "$(find_program sudo)" ] || fail "$need" "let root install them: apt-get install -y $*"
    fi
    if [ -z "${yes-}" ]; then
        [ -t 0 ] && [ -t 2 ] || fail "$need" "${as_root:+$as_root }apt-get install -y $*, or say --yes to let this do it"
        say "$need"
        printf 'Install them on this system with %sapt-get? [y/N] ' "${as_root:+$as_root }" >&2
        read -r answer || answer=
        case $answer in
        [yY] | [yY][eE][sS]) ;;
        *) fail "nothing was installed" "${as_root:+$as_root }apt-get install -y $*" ;;
        esac
    fi
    say "installing with apt-get: $*"
    set -- env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@"
    # sudo asks for a password on the terminal.
    if _has_package_lists && output=$($as_root "$@" 2>&1 </dev/null); then
        return
    fi
    # No package lists, or old ones that name files which the server has no more.
    output=$($as_root apt-get -q update 2>&1 </dev/null) || :
    output="$output
$($as_root "$@" 2>&1 </dev/null)" && return
    echo "$output" >&2
    fail "apt-get failed; its messages are above" "repair the cause and run this again"
}

_has_package_lists() {
    for list in /var/lib/apt/lists/*_Packages*; do
        [ -e "$list" ] && return 0
    done
    return 1
}

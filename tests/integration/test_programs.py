"""Programs that are hard on terminals and namespaces, installed inside: shells, full-screen programs, sandboxes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .mirror import Mirror
from .support import IN_MEMORY, Environment, succeeded
from .terminals import close, inside, spawn

pytestmark = pytest.mark.slow
_PACKAGES = ("zsh", "fish", "htop", "vim-tiny", "bubblewrap", "podman", "chromium")
_BROWSER = (
    "chromium --headless --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    '--disable-component-update --disable-sync --user-data-dir="$1/profile" --dump-dom "file://$1/page.html"'
)


@pytest.fixture(scope="module")
def programs(shared_environment: Environment, mirror: Mirror) -> Environment:
    """An environment that has them all."""
    if shared_environment.sh("command -v chromium || true") == "":
        mirror.install(shared_environment, "--no-install-recommends", *_PACKAGES)
    return shared_environment


@pytest.fixture
def place(programs: Environment) -> Iterator[Path]:
    """A directory of the user."""
    account = programs.tool.account
    path = account.home / "sysenv-test-place"
    path.mkdir()
    os.chown(path, account.uid, account.gid)
    yield path
    programs.sh('rm -r "$1"', str(path))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_job_control_in_a_shell(programs: Environment, shell: str, place: Path) -> None:
    # Their own settings would ask questions at a first start.
    (place / ".zshrc").write_text("PROMPT='in> '\n")
    variables = {"SHELL": f"/usr/bin/{shell}", "ZDOTDIR": str(place), "XDG_CONFIG_HOME": str(place)}
    session = spawn(programs, str(programs.tool.launcher), "shell", programs.name, variables=variables)
    session.sendline("echo rea''dy")
    session.expect("[\r\n]ready")
    session.sendline("sh -c 'echo beg''un; exec cat'")
    session.expect("[\r\n]begun")
    session.sendcontrol("z")
    session.expect("[Ss]topped|suspended")
    session.sendline("echo pau''sed")
    session.expect("[\r\n]paused")
    session.sendline("fg")
    session.sendline("in the foreground")  # read by the job, when it is
    session.expect("in the foreground\r\nin the foreground\r\n")
    session.sendcontrol("c")
    session.sendline("echo aft''er")
    session.expect("[\r\n]after")
    session.sendline("sleep 300 &")
    session.sendline("kill %1; wait; echo gone''.")
    session.expect("[\r\n]gone\\.")
    session.sendline("exit 5")
    close(session)
    assert session.exitstatus == 5


@pytest.mark.parametrize("given", [True, False])
def test_prompt_of_zsh_with_the_users_own_files(programs: Environment, given: bool, place: Path) -> None:
    files = {name: f"echo read {name} ZDOTDIR=${{ZDOTDIR-none}}.\n" for name in (".zshenv", ".zshrc")}
    # As themes do: the prompt is made anew each time.
    files[".zshrc"] += "autoload -U add-zsh-hook; theme() { PROMPT='mine> ' }; add-zsh-hook precmd theme\n"
    for name, text in files.items():
        (place / name).write_text(text)
    home = {"ZDOTDIR": str(place)} if given else {"HOME": str(place)}
    variables = {"SHELL": "/usr/bin/zsh", "TERM": "dumb", **home}
    expected = str(place) if given else "none"
    for more, name in (({}, f"({programs.name}) "), ({"SYSENV_NS_DISABLE_PROMPT": "1"}, "")):
        session = spawn(programs, str(programs.tool.launcher), "shell", programs.name, variables=variables | more)
        for read in files:
            session.expect_exact(f"read {read} ZDOTDIR={expected}.")
        session.expect_exact("mine> ")
        session.sendline("echo ${SYSENV_NS_ZDOTDIR-go''ne}")
        session.expect_exact("gone")
        session.expect_exact("mine> ")
        assert session.before.endswith(name)
        assert name or f"({programs.name})" not in session.before
        session.sendline("zsh -c 'echo inn''er'")  # other ones are not concerned, and find what there was
        session.expect_exact(f"read .zshenv ZDOTDIR={expected}.")
        session.expect_exact("inner")
        session.sendline("exit")
        close(session)
    assert sorted(path.name for path in place.iterdir()) == sorted(files)


@pytest.mark.parametrize("own", [True, False])
def test_prompt_of_fish(programs: Environment, own: bool, place: Path) -> None:
    """With a prompt of the user's, which sees the status as before, and with fish's own."""
    (place / "fish").mkdir()
    os.chown(place / "fish", programs.tool.account.uid, programs.tool.account.gid)
    theme = 'function fish_prompt; echo -n "[$status] mine> "; end' if own else ""
    (place / "fish/config.fish").write_text(f"{theme}\n")
    variables = {"SHELL": "/usr/bin/fish", "TERM": "dumb", "XDG_CONFIG_HOME": str(place)}
    command = (str(programs.tool.launcher), "shell", programs.name)
    who = "root" if programs.tool.mode == "single" else programs.tool.account.name
    for more, shown in (({}, f"({programs.name}) "), ({"SYSENV_NS_DISABLE_PROMPT": "1"}, "")):
        session = spawn(programs, *command, variables=variables | more)
        if own:
            session.expect_exact(f"\r{shown}[0] mine> ")
            session.sendline("false")
            session.expect_exact(f"\r{shown}[1] mine> ")
        else:
            session.expect_exact(f"\r{shown or f'(chroot:{programs.name}) '}{who}@")
        session.sendline("exit")
        close(session)


def test_editor(programs: Environment) -> None:
    session = inside(programs, "vim.tiny", "-u", "NONE", "-N", "-n", "/usr/local/notes")
    session.expect(re.escape("/usr/local/notes"))
    session.send("ihello from vim\x1b:wq\r")
    close(session)
    assert session.exitstatus == 0
    assert programs.sh("cat /usr/local/notes") == "hello from vim\n"
    assert not Path("/usr/local/notes").exists()


def test_full_screen_program_after_a_change_of_size(programs: Environment) -> None:
    session = inside(programs, "htop")
    session.expect("CPU")
    session.setwinsize(40, 90)
    session.expect("Command|COMMAND")
    session.send("q")
    close(session)
    assert session.exitstatus == 0


def test_bubblewrap(programs: Environment) -> None:
    programs.sh("bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --unshare-all true")
    programs.sh("bwrap --dev-bind / / sh -c 'touch /usr/from-bwrap'; test -e /usr/from-bwrap")
    if programs.tool.mode == "full":
        script = "bwrap --ro-bind / / --unshare-all sh -c '! touch /usr/never 2>/dev/null && id -u'"
        assert programs.me(script) == f"{programs.tool.account.uid}\n"


@pytest.fixture
def _no_locks_left() -> Iterator[None]:
    """podman keeps locks in /dev/shm, which is the host's."""
    before = set(IN_MEMORY.glob("libpod_*"))
    yield
    for path in set(IN_MEMORY.glob("libpod_*")) - before:
        path.unlink(missing_ok=True)


@pytest.mark.usefixtures("_no_locks_left")
def test_podman(programs: Environment, place: Path) -> None:
    """Its user namespace in that of the environment, with subordinate ids that exist there."""
    if programs.tool.mode == "full":
        programs.sh('echo "$1:30000:20000" | tee /etc/subuid > /etc/subgid', programs.tool.account.name)
        probe = 'export XDG_RUNTIME_DIR="$PWD"; podman unshare sh -c "id -u; cat /proc/self/uid_map"'
        printed = programs.me(probe, cwd=place).split()
        assert printed == ["0", "0", str(programs.tool.account.uid), "1", "1", "30000", "20000"]
        # Its pause process stays in namespaces of its own, and with it the environment runs on.
        told = succeeded(programs.tool.run("stop", programs.name)).stderr
        assert re.search(r"ended [0-9]+ .*(podman|catatonit -P)", told), told
    else:
        programs.sh("podman --root /opt/podman --runroot /run/podman-test info")


def test_sandbox_of_a_browser(programs: Environment, place: Path) -> None:
    """It refuses to be root, so the single map needs a namespace for it, as the driver root does."""
    (place / "page.html").write_text("<p id=x></p><script>x.textContent = 6 * 7</script>")
    place.chmod(0o777)
    full = programs.tool.mode == "full"
    user, identity = ("", "--me") if full else ("unshare --user --map-user=1000 --map-group=1000", "--root")
    command = ("sh", "-ec", f'export HOME="$1"; exec {user} {_BROWSER}', "sh", str(place))
    page = succeeded(programs.exec(*command, identity=identity, limit=300)).stdout
    assert '<p id="x">42</p>' in page

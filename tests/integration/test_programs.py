"""Programs that are hard on terminals and namespaces, installed inside: shells, full-screen programs, sandboxes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import IN_MEMORY, Environment, succeeded
from .terminals import close, inside, spawn

pytestmark = pytest.mark.slow
_PACKAGES = ("zsh", "fish", "htop", "vim-tiny", "bubblewrap", "podman", "chromium")
_BROWSER = (
    "chromium --headless --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    '--disable-component-update --disable-sync --user-data-dir="$1/profile" --dump-dom "file://$1/page.html"'
)


@pytest.fixture(scope="module")
def programs(shared_environment: Environment) -> Environment:
    """An environment that has them all."""
    if shared_environment.sh("command -v chromium || true") == "":
        shared_environment.apt("update")
        shared_environment.apt("install", "--no-install-recommends", *_PACKAGES)
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
        path.unlink()


@pytest.mark.usefixtures("_no_locks_left")
def test_podman(programs: Environment, place: Path) -> None:
    """Its user namespace in that of the environment, with subordinate ids that exist there."""
    if programs.tool.mode == "full":
        programs.sh('echo "$1:30000:20000" | tee /etc/subuid > /etc/subgid', programs.tool.account.name)
        probe = 'export XDG_RUNTIME_DIR="$PWD"; podman unshare sh -c "id -u; cat /proc/self/uid_map"'
        printed = programs.me(probe, cwd=place).split()
        assert printed == ["0", "0", str(programs.tool.account.uid), "1", "1", "30000", "20000"]
        # Its pause process stays in namespaces of its own, and with it the environment runs on.
        assert "podman" in succeeded(programs.tool.run("stop", programs.name)).stderr
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

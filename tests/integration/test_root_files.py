"""What root of an environment leaves in the home of who called it is that user's when exec ends; and reclaim."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from . import terminals
from .support import ROOT_RUN, Environment, end, finish, line, refused, rest, succeeded, wait_for

pytestmark = pytest.mark.modes("full", more=("single", "sudo"))


@pytest.fixture
def environment(shared_environment: Environment) -> Environment:
    """One for all tests of this file: what they do, they do in the home."""
    return shared_environment


@pytest.fixture
def project(environment: Environment) -> Iterator[Path]:
    """A directory of the user's in the home."""
    path = environment.tool.account.home / "project"
    subprocess.run(["mkdir", path], check=True, **environment.tool.account.become())
    yield path
    environment.tool.run("reclaim", str(path))
    subprocess.run(["rm", "-rf", path], check=True)


def _foreign(environment: Environment, path: Path) -> list[str]:
    """What is not the user's there."""
    account = environment.tool.account
    found = [path, *path.rglob("*")]
    return [str(p) for p in found if (p.lstat().st_uid, p.lstat().st_gid) != (account.uid, account.gid)]


def test_what_a_command_makes_is_the_users(environment: Environment, project: Path) -> None:
    script = """
        mkdir -p deep/er; echo x > deep/er/file; ln -s /etc/passwd link; ln deep/er/file deep/hard; mkfifo fifo
        chmod 700 deep/er; chmod 000 deep/er/file; cp /usr/bin/true deep/er/true; echo y > old.new; mv old.new old
    """
    subprocess.run(["touch", project / "old"], check=True, **environment.tool.account.become())
    succeeded(environment.exec("sh", "-ec", script, cwd=project))
    # The names of real root's files may lie elsewhere, too: they stay root's.
    linked = [str(project / "deep" / name) for name in ("er/file", "hard")]
    assert sorted(_foreign(environment, project)) == (linked if environment.tool.mode == "root" else [])
    assert (project / "link").is_symlink()
    subprocess.run(["rm", "-r", project / "deep"], check=True, **environment.tool.account.become())


def test_below_directories_that_were_there(environment: Environment, project: Path) -> None:
    deep = project / "a/b/c"
    subprocess.run(["mkdir", "-p", deep], check=True, **environment.tool.account.become())
    succeeded(environment.exec("touch", "a/b/c/made", cwd=project))
    assert _foreign(environment, project) == []


def test_what_a_command_names_from_elsewhere(environment: Environment, project: Path) -> None:
    succeeded(environment.exec("mkdir", "-p", f"{project}/new/er", cwd=Path("/")))
    succeeded(environment.exec("dd", "if=/dev/null", f"of={project}/written", cwd=Path("/")))
    assert _foreign(environment, project) == []


def test_in_the_home_itself_nobody_waits(environment: Environment) -> None:
    """There the command is the process that was started, and reclaim does the rest."""
    home = environment.tool.account.home
    succeeded(environment.exec("sh", "-c", "mkdir made; touch made/file", cwd=home))
    succeeded(environment.tool.run("reclaim", str(home / "made")))
    assert _foreign(environment, home / "made") == []
    subprocess.run(["rm", "-r", home / "made"], check=True, **environment.tool.account.become())


def test_what_was_there_before_is_left_alone(environment: Environment, project: Path) -> None:
    if not ROOT_RUN:
        pytest.skip("only root can make files of others")
    for name, uid in (("of-root", 0), ("of-nobody", 65534)):
        (project / name).touch()
        os.chown(project / name, uid, uid)
    time.sleep(1.1)  # a second is what some file systems' times tell
    succeeded(environment.exec("touch", "new", cwd=project))
    assert [(project / name).stat().st_uid for name in ("of-root", "of-nobody")] == [0, 65534]


def test_git_make_and_npm_work(environment: Environment, project: Path) -> None:
    become = environment.tool.account.become()
    subprocess.run(["git", "init", "-q", project], check=True, **become)
    (project / "Makefile").write_text("all:\n\techo built > out\n")
    (project / "dependency").mkdir()
    (project / "dependency/package.json").write_text('{"name": "dependency", "version": "1.0.0"}')
    (project / "package.json").write_text('{"name": "project", "dependencies": {"dependency": "file:dependency"}}')
    subprocess.run(
        ["chown", "-R", f"{environment.tool.account.uid}:{environment.tool.account.gid}", project], check=True
    )
    assert "Makefile" in succeeded(environment.exec("git", "status", "--short", cwd=project)).stdout
    succeeded(environment.exec("git", "add", "Makefile", cwd=project))
    succeeded(environment.exec("make", "-s", cwd=project))
    if environment.exec("sh", "-c", "command -v npm").returncode == 0:
        succeeded(environment.exec("npm", "install", "--offline", "--no-audit", "--no-fund", cwd=project))
        assert (project / "node_modules/dependency/package.json").exists()
    assert _foreign(environment, project) == []
    subprocess.run(["git", "-C", project, "status"], check=True, stdout=subprocess.DEVNULL, **become)


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -15 $$", -15), ("kill -9 $$", -9)])
def test_the_status_is_the_commands_own(environment: Environment, project: Path, command: str, status: int) -> None:
    assert environment.exec("sh", "-c", f"touch file; {command}", cwd=project).returncode == status
    assert _foreign(environment, project) == []


def test_a_signal_is_the_commands(environment: Environment, project: Path) -> None:
    script = "trap 'touch caught; exit 3' USR1; echo ready; while :; do sleep 0.1; done"
    process = environment.tool.start("exec", environment.name, "--", "sh", "-c", script, cwd=project)
    assert line(process) == "ready\n"
    process.send_signal(signal.SIGUSR1)
    finish(process)
    assert process.returncode == 3
    assert _foreign(environment, project) == []


@pytest.mark.modes("full")
def test_nobody_waits_for_the_parent(environment: Environment, project: Path) -> None:
    """A pipe that the command closes is closed, and a killed session leaves no command behind."""
    script = "echo said; exec >&- 2>&-; exec sleep 300"
    process = environment.tool.start("exec", environment.name, "--", "sh", "-c", script, cwd=project)
    assert rest(process) == "said\n"
    end(process)
    wait_for(lambda: not environment.tool.status(environment.name)["processes"])


@pytest.mark.modes("full")
def test_job_control(environment: Environment) -> None:
    """In a shell of the host, whose job the parent is: stopped, continued, interrupted."""
    tool = environment.tool
    shell = terminals.spawn(environment, "/bin/bash", "--norc", "--noprofile", variables={"PS1": "PROMPT> "})
    shell.expect_exact("PROMPT> ")
    shell.sendline(f"{tool.launcher} exec {environment.name} -- sh -c 'echo rea''dy; read line; echo got $line; cat'")
    shell.expect_exact("ready")
    shell.sendcontrol("z")
    shell.expect_exact("Stopped")
    shell.expect_exact("PROMPT> ")
    shell.sendline("fg")
    shell.sendline("words")
    shell.expect_exact("got words")
    shell.sendline("for cat")
    shell.expect_exact("for cat\r\nfor cat")  # by now it is there: between fork(2) and execve(2) dash loses a signal
    shell.sendcontrol("c")
    shell.expect_exact("PROMPT> ")
    shell.sendline("echo status=$?")
    shell.expect_exact("status=130")
    shell.sendline("exit")
    terminals.close(shell)


def test_reclaim(environment: Environment, project: Path) -> None:
    script = f"sleep 0.2; mkdir -p {project}/late; touch {project}/late/file"
    succeeded(environment.exec("setsid", "sh", "-c", f"({script}) > /dev/null 2>&1 &", cwd=Path("/")))
    wait_for((project / "late/file").exists)
    result = environment.tool.run("reclaim", str(project))
    if environment.tool.mode == "root":  # of another id than a subordinate one
        refused(result, 1, "2 of the files belong to the host's root", "sudo chown -hR --from=root", str(project))
        return
    succeeded(result)
    if environment.tool.mode != "single":
        assert "2 files" in result.stderr
    assert _foreign(environment, project) == []
    assert "nothing" in succeeded(environment.tool.run("reclaim", str(project))).stderr
    refused(environment.tool.run("reclaim", f"{project}/absent"), 1, "absent")


def test_a_terminal_sees_no_difference(environment: Environment, project: Path) -> None:
    program = terminals.spawn(
        environment,
        "sh",
        "-c",
        f"cd {project}; exec {environment.tool.launcher} exec {environment.name} -- bash --norc",
    )
    program.sendline("PS1='i''n> '")
    program.expect_exact("in> ")
    program.sendline("sh -c 'echo sta''rted; exec sleep 300'")
    program.expect_exact("started")
    program.sendcontrol("c")
    program.expect_exact("in> ")
    program.sendline("touch here; exit 5")
    program.expect(pexpect.EOF)
    program.close()
    assert program.exitstatus == 5
    assert _foreign(environment, project) == []

"""The policy files: what they bind, overlay and choose."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from .machines import Machine
from .support import BASE_LIMIT, Environment, Tool, ran, refused, succeeded


@pytest.fixture
def configured(new_machine: Machine) -> Machine:
    """A machine whose user has a policy file; `say` writes it."""
    machine = new_machine
    home = machine.root / "mnt" / "config" / "sysenv-ns"
    home.mkdir(parents=True)
    prefix = (*machine.tool.prefix, "env", "XDG_CONFIG_HOME=/mnt/config")
    return replace(machine, tool=replace(machine.tool, prefix=prefix))


def _say(machine: Machine, text: str) -> None:
    (machine.root / "mnt" / "config" / "sysenv-ns" / "config.toml").write_text(text)


def _say_in_environment(machine: Machine, text: str) -> None:
    path = machine.tool.store / "envs" / "test" / "config.toml"
    path.write_text(text)
    os.chown(path, machine.tool.account.uid, machine.tool.account.gid)


@pytest.mark.modes("full", "single", "root")
def test_bound_paths_are_the_hosts_own(configured: Machine) -> None:
    uid = str(configured.tool.account.uid)
    configured.sh(
        """
        for directory in /opt/vendor /usr/local/share/models /etc/vendor.d /var/lib/vendor; do
            mkdir -p "$directory"
            echo host > "$directory/file"
            chown -R "$1" "$directory"
        done
        echo host > /usr/share/vendor.conf
        chown "$1" /usr/share/vendor.conf
        ln -s /opt/vendor /opt/link
        """,
        uid,
    )
    _say(configured, 'bind = ["/opt/link", "/usr/local/share/models", "/etc/vendor.d", "/usr/share/vendor.conf"]\n')
    environment = configured.create()
    _say_in_environment(configured, 'bind = ["/var/lib/vendor"]\n')
    bound = ("/opt/vendor", "/usr/local/share/models", "/etc/vendor.d", "/var/lib/vendor")
    # As oneself: in the full map root of the environment has no rights over a group of the host.
    identity = "--me" if environment.tool.mode == "full" else ""
    environment.sh('for d; do cat "$d/file"; echo inside > "$d/new"; done', *bound, identity=identity)
    environment.sh("echo inside >> /usr/share/vendor.conf", identity=identity)
    assert configured.sh('for d; do cat "$d/new"; done; cat /usr/share/vendor.conf', *bound) == (
        "inside\n" * 4 + "host\ninside\n"
    )
    # What changes on the host shows at once, and everything beside belongs to the environment.
    configured.sh("echo later > /opt/vendor/later")
    assert environment.sh("cat /opt/vendor/later /opt/link/later") == "later\n" * 2
    environment.sh("echo x > /opt/x; echo x > /usr/local/share/x; echo x > /etc/x; echo x > /var/lib/x")
    assert configured.sh("find /opt /usr/local /etc /var/lib -name x") == ""


@pytest.mark.modes("full", "root", more=("single",))
def test_overlaid_paths_are_the_environments_own(configured: Machine) -> None:
    image = configured.image("disk", "ext4", size="64M")
    configured.sh(
        """
        mkdir -p /data/a /disk /var/lib/flatpak
        mount -o loop "$1" /disk
        mount -t tmpfs -o mode=755 test /srv
        for directory in /data/a /disk /srv /var/lib/flatpak; do
            head -c 9999 /dev/urandom > "$directory/large"
            echo host > "$directory/small"
        done
        """,
        image,
    )
    _say(configured, 'overlay = ["/data", "/disk", "/srv", "/var/lib/flatpak"]\n')
    environment = configured.create()
    places = ("/data/a", "/disk", "/srv", "/var/lib/flatpak")
    script = 'for d; do sha256sum < "$d/large"; cat "$d/small"; done'
    assert environment.sh(script, *places) == configured.sh(script, *places)
    environment.sh('for d; do echo inside > "$d/small"; rm "$d/large"; echo new > "$d/new"; done', *places)
    assert environment.sh('for d; do cat "$d/small"; ls "$d"; done', *places).split().count("inside") == len(places)
    assert configured.sh('for d; do cat "$d/small"; ls "$d"; done', *places).split().count("host") == len(places)
    assert configured.sh('find "$@" -name new', *places) == ""
    # What changes on the host, deep below and of any size, shows at the next start.
    configured.sh("mkdir /data/a/b; head -c 9999 /dev/urandom > /data/a/b/later; echo more >> /disk/other")
    script = "sha256sum /data/a/b/later /disk/other"
    assert environment.sh(script) == configured.sh(script)


@pytest.mark.modes("full", "root", more=("single",))
def test_the_usual_treatment_comes_back_without_the_file(configured: Machine) -> None:
    configured.sh("mkdir /data /opt/vendor; echo host > /data/file; echo host > /opt/vendor/file; chmod 777 /data")
    _say(configured, 'overlay = ["/data"]\nbind = ["/opt/vendor"]\n')
    environment = configured.create()
    environment.sh("echo inside > /data/file")
    assert environment.exec("touch", "/opt/vendor/new").returncode == (0 if environment.tool.mode == "root" else 1)
    configured.sh("rm -f /opt/vendor/new")
    _say(configured, "")
    assert environment.sh("cat /data/file; touch /opt/vendor/new; cat /opt/vendor/file") == "host\nhost\n"
    assert configured.sh("ls /opt/vendor") == "file\n"


@pytest.mark.modes("full", more=("single",))
def test_environments_with_other_paths_do_not_renew_each_others_base(configured: Machine) -> None:
    tool = configured.tool
    configured.sh("mkdir -p /opt/vendor; echo host > /opt/vendor/file")
    environment, other = configured.create(), tool.environment("other")
    _say_in_environment(configured, 'bind = ["/opt/vendor"]\n')
    succeeded(environment.exec("true", limit=BASE_LIMIT))
    succeeded(tool.run("create", *tool.options, "other"))
    made = _layers(tool)
    for _ in range(2):
        for each in (environment, other):
            succeeded(each.exec("true"))
    assert _layers(tool) == made
    succeeded(tool.run("remove", "--purge", "--base", "test"))
    assert len(list((tool.store / "base").glob("*/"))) == 1
    assert other.sh("cat /opt/vendor/file") == "host\n"


def _layers(tool: Tool) -> dict[str, int]:
    found = [path for pattern in ("*", "*/*", "*/*/tree/*") for path in (tool.store / "base").glob(pattern)]
    return {str(path): path.lstat().st_ctime_ns for path in found if path.name != "lock"}


@pytest.mark.modes("full", more=("single",))
def test_driver_and_id_map(configured: Machine) -> None:
    _say(configured, 'driver = "copy"\nid-map = "single"\n')
    tool = configured.tool
    succeeded(tool.run("exec", "test", "--", "true", limit=BASE_LIMIT))
    succeeded(tool.run("create", "other", "--driver", "stub", "--id-map", "single"))
    assert (tool.status("test")["driver"], tool.status("test")["id_map"]) == ("copy", "single")
    assert (tool.status("other")["driver"], tool.status("other")["id_map"]) == ("stub", "single")
    _say(configured, 'driver = "stub"\n')  # it was chosen when the environment was made
    succeeded(tool.run("exec", "test", "--", "true"))


def test_shell(configured: Machine) -> None:
    _say(configured, 'shell = "/usr/local/bin/first"\n')
    environment = configured.create()
    for name in ("first", "second"):
        script = f"echo '#!/bin/sh\necho {name} $SHELL' > /usr/local/bin/{name}; chmod +x /usr/local/bin/{name}"
        environment.sh(script)
    run = environment.tool.run
    assert succeeded(run("shell", "test")).stdout == "first /usr/local/bin/first\n"
    _say_in_environment(configured, 'shell = "/usr/local/bin/second"\n')
    assert succeeded(run("shell", "test")).stdout == "second /usr/local/bin/second\n"
    assert environment.sh("echo $SHELL") == "/bin/bash\n"
    _say_in_environment(configured, 'shell = "/no/such/shell"\n')
    assert run("shell", "test").returncode == 127


def test_what_cannot_be(configured: Machine) -> None:
    configured.sh("mkdir -p /data/inner")
    environment = configured.create()
    _say(configured, 'overlay = ["/data/inner"]\n')
    refused(environment.exec("true"), 125, "/data/inner in overlay is inside /data", "overlay /data as a whole")
    _say(configured, 'bind = ["/opt/gone"]\n')
    refused(environment.exec("true"), 125, "/mnt/config/sysenv-ns/config.toml: /opt/gone in bind does not exist")
    _say(configured, "")
    _say_in_environment(configured, "bind = 1\n")
    refused(environment.exec("true"), 125, "envs/test/config.toml: bind is not a list")
    _say_in_environment(configured, "")
    succeeded(environment.exec("true"))


# Tells what is opened: a file named by the first argument gets a line for each.
_WATCH = """
import sys
log = open(sys.argv.pop(1), "a")
opened = lambda event, path: event == "open" and str(path).endswith("config.toml") and print(path, file=log, flush=True)
sys.addaudithook(lambda event, arguments: opened(event, arguments[0] if arguments else ""))
from sysenv_ns.__main__ import main
main()
"""


@pytest.mark.modes("full", "single")
@pytest.mark.parametrize("verb", ["exec", "shell"])
def test_the_files_are_read_once_for_a_start(new_environment: Environment, verb: str) -> None:
    tool, path = new_environment.tool, new_environment.tool.store / "envs" / new_environment.name
    (path / "config.toml").write_text('shell = "/bin/sh"\n')
    os.chown(path / "config.toml", tool.account.uid, tool.account.gid)
    log = tool.account.home / "opened"
    python = tool.launcher.parents[1] / ".venv" / "bin" / "python"
    command = [str(python), "-I", "-c", _WATCH, str(log), verb, new_environment.name]
    command += ["--", "true"] if verb == "exec" else []
    done = ran(command, "true\n", env=tool.variables(), cwd=tool.account.home, **tool.account.become())
    assert done.returncode == 0, done.stderr
    opened = log.read_text().splitlines()
    log.unlink()
    assert opened == [str(tool.account.home / ".config/sysenv-ns/config.toml"), str(path / "config.toml")]


def test_variables_of_sessions(configured: Machine) -> None:
    environment = configured.create()
    _say(configured, '[env]\nEDITOR = "vim"\nLANG = "C"\nSHELL = "/bin/dash"\n')
    _say_in_environment(configured, '[env]\nLANG = "C.UTF-8"\n')
    script = 'echo "$EDITOR $LANG"'
    identity = "" if environment.tool.mode == "single" else "--me"
    started = environment.sh(f"sleep 300 >/dev/null 2>&1 & {script}", identity=identity)
    joined = environment.sh(script)
    by_shell = succeeded(environment.tool.run("shell", environment.name, stdin=f"{script}\n")).stdout
    assert started == joined == by_shell == "vim C.UTF-8\n"
    given = environment.tool.run("exec", "--env", "LANG=C", environment.name, "--", "sh", "-c", script)
    assert succeeded(given).stdout == "vim C\n"
    _say_in_environment(configured, '[env]\nSYSENV_NS = "other"\n')
    refused(environment.tool.run("exec", environment.name, "--", "true"), 125, "SYSENV_NS in env")

"""rebase: the packages of a small host are upgraded under environments, which are carried over."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .machines import Machine, output
from .support import Environment, succeeded
from .upgrades import (
    ADDED,
    DIVERTER,
    HOST,
    OWN_BOTH,
    OWN_UPGRADED,
    SERVICE,
    asking,
    assert_sound,
    assert_up_to_date,
    first,
    install,
    later,
    owning,
    rebase,
    reowning,
    upgrade,
    versions,
)


@pytest.mark.modes("full", "idmap", more=("single", "root"))
def test_added_packages_stay_and_the_host_moves_below(machine: Machine, packages: Path) -> None:
    environment = first(machine, packages)
    install(environment, packages, *ADDED, DIVERTER)
    environment.sh("echo own > /usr/local/own; mkdir -p /opt/own; echo 1 > /opt/own/file")
    assert_up_to_date(environment)
    later(machine, packages)
    entered = environment.exec("true")
    assert "sysenv-ns rebase test" in succeeded(entered).stderr
    assert "rebase" not in succeeded(environment.exec("true")).stderr  # said once
    status = environment.tool.status("test")
    assert "rb-plain" in [change["name"] for change in status["drift"]["changed"]]
    assert "drifted" in succeeded(environment.tool.run("list")).stdout
    before = versions(environment)
    rebase(environment, "--dry-run")
    assert versions(environment) == before
    rebase(environment)
    assert_up_to_date(environment)
    found = versions(environment)
    assert found["plain"] == "ii 2"
    assert found["new"] == found["added"] == "ii 1"
    assert "leaving" not in found
    assert_sound(machine, environment)
    assert environment.sh("cat /usr/bin/rb-plain /etc/rb-plain.conf") == "/usr/bin/rb-plain 2\nsetting 2\n"
    assert environment.sh("cat /usr/bin/rb-diverted /usr/bin/rb-diverted.distrib") == "mine\n/usr/bin/rb-diverted 2\n"
    assert environment.sh("readlink /etc/alternatives/rb-choice") == "/usr/bin/rb-choice-a\n"
    assert environment.sh("update-alternatives --list rb-choice").split() == [
        "/usr/bin/rb-choice-a",
        "/usr/bin/rb-choice-b",
    ]
    assert environment.sh("cat /var/cache/rb/list").split() == ["host", "own"]
    assert environment.sh("cat /usr/local/own /opt/own/file") == "own\n1\n"
    environment.sh("dpkg --purge rb-added rb-diverter rb-watched rb-choice-b")
    assert environment.sh("cat /usr/bin/rb-diverted") == "/usr/bin/rb-diverted 2\n"
    assert not environment.tool.status("test")["drift"]["changed"]


@pytest.mark.modes("full", more=("single",))
def test_changed_packages_stay_as_the_environment_has_them(machine: Machine, packages: Path) -> None:
    environment = first(machine, packages)
    install(environment, packages, OWN_UPGRADED, OWN_BOTH)
    again = next(deb for deb in HOST if deb.name == "rb-again")
    install(environment, packages, again)
    environment.sh("dpkg -r rb-removed; dpkg -P rb-purged; echo rb-held hold | dpkg --set-selections")
    later(machine, packages)
    result = rebase(environment)
    assert {d["key"]: d["why"] for d in result["packages"]}["rb-held"] == "updated, hold"
    found = versions(environment)
    assert (found["upgraded"], found["both"], found["again"]) == ("ii 2", "ii 2", "ii 2")
    assert (found["removed"], found["held"]) == ("rc 1", "hi 2")
    assert "purged" not in found
    assert_sound(machine, environment)
    assert_up_to_date(environment)
    assert environment.sh("ls -A /usr/share/rb-upgraded; cat /etc/rb-upgraded.conf") == "data\nsetting 2\n"
    assert environment.sh("ls -A /usr/share/rb-both /usr/share/rb-again").split() == [
        *("/usr/share/rb-again:", "data", "new", "/usr/share/rb-both:", "data")
    ]
    assert (
        environment.sh("ls -d /usr/share/rb-removed /usr/share/rb-purged /usr/bin/rb-removed 2>&1 || :").count("No")
        == 3
    )
    assert environment.sh("cat /etc/rb-removed.conf") == "setting 1\n"
    upper = Path(environment.tool.status("test")["path"], "upper")
    assert not (upper / "usr/bin/rb-both").exists()
    assert not (upper / "usr/bin/rb-again").exists()


@pytest.mark.modes("full", "single", more=("root",))
def test_users_services_and_edited_files_stay(machine: Machine, packages: Path) -> None:
    environment = first(machine, packages)
    install(environment, packages, SERVICE)
    environment.sh("""
        echo own >> /etc/rb-edited.conf; echo own >> /etc/rb-plain.conf; echo own >> /etc/rb-held.conf
        mkdir -p /etc/systemd/system/multi-user.target.wants
        ln -s /lib/systemd/system/rb-service.service /etc/systemd/system/multi-user.target.wants/
        touch /var/lib/rb-own; chmod 700 /usr/bin/rb-held
    """)
    machine.sh("echo host >> /etc/rb-edited.conf")  # both edit it, and dpkg keeps the host's
    owner = "root" if environment.tool.mode == "single" else "rb-own"
    environment.sh('chown "$1" /var/lib/rb-own', owner)
    later(machine, packages)
    rebase(environment)
    assert_sound(machine, environment)
    assert_up_to_date(environment)
    assert (
        environment.sh("cat /etc/rb-edited.conf /etc/rb-edited.conf.dpkg-dist") == "setting 1\nown\nsetting 1\nhost\n"
    )
    assert environment.sh("cat /usr/bin/rb-held; stat -c %a /usr/bin/rb-held") == "/usr/bin/rb-held 2\n700\n"
    names = environment.sh("getent passwd | cut -d: -f1,3 | grep rb-").split()
    ids = dict(name.split(":") for name in names)
    assert set(ids) == {"rb-host1", "rb-host2", "rb-own"}
    assert len(set(ids.values())) == 3
    assert environment.sh("getent group | cut -d: -f1 | grep rb- | sort").split() == sorted(ids)
    assert environment.sh("stat -c %U /var/lib/rb-own") == f"{owner}\n"
    environment.sh("test -L /etc/systemd/system/multi-user.target.wants/rb-service.service; pwck -qr; grpck -r")


@pytest.mark.modes("full", more=("root",))
def test_frozen_layers(machine: Machine, packages: Path) -> None:
    """They become one with the changes; a snapshot is of the host of then, says so, and is carried over like any."""
    environment = first(machine, packages)
    tool, run = environment.tool, environment.tool.run
    install(environment, packages, ADDED[0])
    environment.sh("dpkg -P rb-purged; echo 1 > /usr/local/own")
    succeeded(run("snapshot", "test", "before"))
    environment.sh("rm /usr/local/own; echo 2 > /usr/local/later")
    later(machine, packages)
    assert "sysenv-ns rebase test" in succeeded(environment.exec("true")).stderr
    rebase(environment)
    assert environment.sh("cd /usr/local; ls own later 2>/dev/null || :") == "later\n"
    found = versions(environment)
    assert (found["plain"], found["added"]) == ("ii 2", "ii 1")
    assert "purged" not in found
    assert_sound(machine, environment)
    assert not tool.status("test")["drift"]["changed"]
    succeeded(run("rollback", "test", "before"))
    assert "rb-plain" in [change["name"] for change in tool.status("test")["drift"]["changed"]]
    assert "sysenv-ns rebase test" in succeeded(environment.exec("true")).stderr
    rebase(environment)
    assert environment.sh("cd /usr/local; ls own later 2>/dev/null || :") == "own\n"
    assert versions(environment) == found
    assert_sound(machine, environment)
    assert tool.status("test")["snapshots"] == ["before", "before-rollback"]


@pytest.mark.modes("full", more=("root",))
def test_answers_stay(machine: Machine, packages: Path) -> None:
    upgrade(machine, packages, asking("asks", "1", "rb-asks/a", "rb-asks/b", "rb-asks/old"))
    environment = first(machine, packages)
    answer = "echo rb-asks rb-asks/{} string {} | debconf-set-selections"
    environment.sh(answer.format("a", "own"))  # without a package database of its own
    succeeded(environment.exec("true"))
    machine.sh(answer.format("a", "host"))
    install(environment, packages, asking("inquires", "1", "rb-asks/b", "rb-inquires/c"))
    upgrade(machine, packages, asking("asks", "2", "rb-asks/a", "rb-asks/b", "rb-asks/new"))
    machine.sh(answer.format("b", "host"))
    rebase(environment)
    assert_sound(machine, environment)
    assert_up_to_date(environment)
    assert _answers(environment) == [
        *("rb-asks/a:own", "rb-asks/b:host", "rb-asks/new:2", "rb-asks/old:1"),
        *("rb-asks/b:host", "rb-inquires/c:1"),
    ]
    environment.sh("dpkg --purge rb-asks")
    assert _answers(environment) == ["rb-asks/b:host", "rb-inquires/c:1"]
    assert "rb-asks/new" in machine.sh("cat /var/cache/debconf/templates.dat")
    assert "rb-asks/new" not in environment.sh("cat /var/cache/debconf/config.dat /var/cache/debconf/templates.dat")


@pytest.mark.modes("single")
def test_files_that_moved_to_another_package(machine: Machine, packages: Path) -> None:
    path = "/usr/share/rb/{}"
    names = ("upgraded", "purged", "again", "kept")
    givers = [owning(f"give-{n}", "1", path.format(n), f"/usr/share/rb-give/{n}") for n in names]
    upgrade(machine, packages, *givers)
    environment = first(machine, packages)
    install(environment, packages, owning("give-upgraded", "1.5", path.format("upgraded")), givers[2])
    environment.sh("dpkg --purge rb-give-purged; chmod 600 /usr/share/rb/kept")
    takers = [owning(f"take-{n}", "2", path.format(n), Replaces=f"rb-give-{n} (<< 2)") for n in names]
    upgrade(machine, packages, *takers, *(owning(f"give-{n}", "2", f"/usr/share/rb-give/{n}") for n in names))
    rebase(environment)
    assert_sound(machine, environment)
    assert_up_to_date(environment)
    owners = {n: environment.sh(f"dpkg -S {path.format(n)}").partition(":")[0] for n in names}
    taken = {n: f"rb-take-{n}" for n in names}
    assert owners == {**taken, "upgraded": "rb-give-upgraded"}
    assert environment.sh("cd /usr/share/rb; cat again kept purged upgraded; stat -c %a again kept").split() == [
        *(path.format("again"), "2", path.format("kept"), "2", path.format("purged"), "2"),
        *(path.format("upgraded"), "1.5", "644", "600"),
    ]
    environment.sh("dpkg --purge rb-give-upgraded")
    assert environment.sh("ls /usr/share/rb").split() == ["again", "kept", "purged"]


@pytest.mark.modes("full", more=("root",))
def test_files_of_a_new_system_user(machine: Machine, packages: Path) -> None:
    upgrade(machine, packages, reowning("1", "root"))
    environment = first(machine, packages)
    install(environment, packages, SERVICE)  # its user has the number that the host's gets later
    environment.sh("chown rb-own /usr/share/rb-plain; touch /var/lib/rb-own; chown rb-own /var/lib/rb-own")
    upgrade(machine, packages, reowning("2", "rb-host3"))
    host = machine.sh("stat -c %u /var/lib/rb-reowned/shipped")
    begun = succeeded(environment.exec("stat", "-c", "%u", "/var/lib/rb-own"))  # accounts follow at each start
    assert begun.stdout == host
    assert "rb-host3 gets the number" in begun.stderr
    rebase(environment)
    assert_sound(machine, environment)
    assert_up_to_date(environment)
    script = "cd /var/lib; stat -c '%n %U:%G' rb-reowned rb-reowned/data rb-reowned/shipped rb-own /usr/share/rb-plain"
    assert environment.sh(script).splitlines() == [
        *(f"{path} rb-host3:rb-host3" for path in ("rb-reowned", "rb-reowned/data", "rb-reowned/shipped")),
        *("rb-own rb-own:root", "/usr/share/rb-plain rb-own:root"),
    ]
    environment.sh("pwck -qr; grpck -r")


def _answers(environment: Environment) -> list[str]:
    lines = environment.sh("for name in rb-asks rb-inquires; do debconf-show $name | tr -d ' *' | sort; done")
    return lines.splitlines()


@pytest.mark.modes("single")
@pytest.mark.parametrize("driver", ["copy", "fuse"])
def test_other_drivers(machine: Machine, packages: Path, driver: str) -> None:
    if driver == "fuse":
        _give_fuse(machine)
    environment = first(machine, packages, "--driver", driver)
    again = next(deb for deb in HOST if deb.name == "rb-again")
    install(environment, packages, OWN_UPGRADED, *ADDED)
    environment.sh("dpkg -r rb-removed; dpkg -P rb-purged rb-again")
    install(environment, packages, again)  # its directory hides the host's now
    later(machine, packages)
    rebase(environment)
    found = versions(environment)
    assert (found["plain"], found["upgraded"], found["removed"], found["again"]) == ("ii 2", "ii 2", "rc 1", "ii 2")
    assert_sound(machine, environment)
    assert environment.sh("ls -A /usr/share/rb-again /usr/share/rb-upgraded").split() == [
        *("/usr/share/rb-again:", "data", "new", "/usr/share/rb-upgraded:", "data")
    ]


def _give_fuse(machine: Machine) -> None:
    """Let the machine have fuse-overlayfs and a device that its users may open."""
    program = shutil.which("fuse-overlayfs")
    if program is None:
        pytest.skip("there is no fuse-overlayfs")
    libraries = [word for word in output("ldd", program).split() if word.startswith("/") and "libfuse" in word]
    for path in (program, *libraries):
        shutil.copy(path, f"{machine.root}{path}")
    machine.sh("""
        mkdir /mnt/dev; mount -t tmpfs -o dev test /mnt/dev
        mknod --mode=666 /mnt/dev/fuse c 10 229; mount --bind /mnt/dev/fuse /dev/fuse
    """)

"""What becomes of packages after their installation: upgrades, removals, interruptions, an administrator's changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .debs import Archive, Deb, assert_sound, attempt, change, program, states
from .machines import Machine, output
from .mirror import Mirror
from .support import Environment, describe, finish, line, succeeded, wait_for

pytestmark = pytest.mark.modes("full", more=("single",))

_AT_ONCE = 40  # packages that apt-cache is asked about in one go: it takes its time for each


@pytest.fixture
def environment(small_environment: Environment) -> Environment:
    """Of a small host, but for what needs this one's packages."""
    return small_environment


def test_upgrade_then_dist_upgrade(environment: Environment, shared: Path) -> None:
    archive = Archive(environment, shared)
    archive.add(program("trip", Depends="trip-map"), program("trip-map"))
    environment.apt("install", "trip")
    archive.add(program("trip", "2", Depends="trip-map (>= 2), trip-guide"), program("trip-map", "2"))
    archive.add(program("trip-guide"))
    environment.apt("upgrade")  # installs nothing new, so one is kept back
    assert states(environment, "trip*") == {"trip": "ii 1", "trip-map": "ii 2"}
    environment.apt("dist-upgrade")
    assert states(environment, "trip*") == {"trip": "ii 2", "trip-guide": "ii 1", "trip-map": "ii 2"}
    assert environment.sh("trip; trip-map; trip-guide").splitlines() == ["trip 2", "trip-map 2", "trip-guide 1"]
    assert_sound(environment)


def test_reinstall_remove_autoremove_purge(environment: Environment, shared: Path) -> None:
    Archive(environment, shared).add(program("trip", Depends="trip-map"), program("trip-map"))
    environment.apt("install", "trip")
    environment.sh("echo mine > /etc/trip.conf; rm /usr/bin/trip")
    environment.apt("install", "--reinstall", "trip")
    assert environment.sh("trip; cat /etc/trip.conf") == "trip 1\nmine\n"
    environment.apt("remove", "trip")
    assert states(environment, "trip*") == {"trip": "rc 1", "trip-map": "ii 1"}
    assert environment.sh("cat /etc/trip.conf; ls /usr/bin/trip* /etc/trip*").split() == [
        *("mine", "/etc/trip-map.conf", "/etc/trip.conf", "/usr/bin/trip-map")
    ]
    environment.apt("autoremove", "--purge")
    assert states(environment, "trip*") == {"trip": "rc 1"}
    environment.apt("purge", "trip")
    assert states(environment, "trip*") == {}
    assert environment.sh("find /etc /usr/bin /var/lib/dpkg/info -name 'trip*'") == ""
    assert_sound(environment)


def test_marks(environment: Environment, shared: Path) -> None:
    archive = Archive(environment, shared)
    archive.add(program("trip", Depends="trip-map"), program("trip-map"))
    environment.apt("install", "trip")
    change(environment, "apt-mark hold trip-map")
    archive.add(program("trip", "2", Depends="trip-map"), program("trip-map", "2"))
    environment.apt("upgrade")
    assert states(environment, "trip*") == {"trip": "ii 2", "trip-map": "hi 1"}
    assert environment.sh("apt-mark showhold") == "trip-map\n"
    change(environment, "apt-mark unhold trip-map")
    environment.apt("upgrade")
    assert states(environment, "trip*") == {"trip": "ii 2", "trip-map": "ii 2"}

    shown = "apt-mark showmanual trip trip-map"
    assert environment.sh(shown) == "trip\n"
    change(environment, "apt-mark auto trip; apt-mark manual trip-map")
    assert environment.sh(shown) == "trip-map\n"
    environment.apt("autoremove")
    assert states(environment, "trip*") == {"trip": "rc 2", "trip-map": "ii 2"}
    assert_sound(environment)


def test_downgrade_of_a_package_of_the_host(small_environment: Environment, machine: Machine, shared: Path) -> None:
    """To an older version, and up again."""
    _, newer = Archive(small_environment, shared).add(program("trip"), program("trip", "2"))
    machine.sh('dpkg -i "$1"', str(newer))
    assert states(small_environment, "trip") == {"trip": "ii 2"}
    small_environment.apt("install", "--allow-downgrades", "trip=1")
    assert states(small_environment, "trip") == {"trip": "ii 1"}
    assert small_environment.sh("trip") == "trip 1\n"
    assert_sound(small_environment)
    small_environment.apt("install", "--only-upgrade", "trip")
    assert states(small_environment, "trip") == {"trip": "ii 2"}
    assert small_environment.sh("trip") == machine.sh("trip") == "trip 2\n"
    assert_sound(small_environment)


@pytest.mark.matrix
def test_downgrade_to_an_older_version_of_the_archive(new_environment: Environment, mirror: Mirror) -> None:
    package, newer, older = _package_with_two_versions(mirror)
    for version in (newer, older):
        mirror.provide(new_environment, "--reinstall", "--allow-downgrades", f"{package}={version}")
    for version in (newer, older):
        new_environment.apt("install", "--allow-downgrades", f"{package}={version}")
        assert states(new_environment, package) == {package: f"ii {version}"}
        assert_sound(new_environment)
    new_environment.apt("install", "--only-upgrade", package)
    assert states(new_environment, package) == {package: f"ii {newer}"}
    assert_sound(new_environment)


def _package_with_two_versions(mirror: Mirror) -> tuple[str, str, str]:
    """A small one of the host that can be exchanged alone, its newest version and another."""
    rows = output("dpkg-query", "-W", "-f", "${Installed-Size} ${Package}\n").splitlines()
    # Below that are metapackages, with nothing in them to exchange.
    sizes = sorted((int(size), name) for size, _, name in (row.partition(" ") for row in rows) if size.isdecimal())
    packages = [name for size, name in sizes if size >= 100]
    for start in range(0, len(packages), _AT_ONCE):
        for package, (newer, *others) in mirror.versions(*packages[start : start + _AT_ONCE]).items():
            for older in others:
                if mirror.exchanged_by(f"{package}={older}") == [package]:
                    return package, newer, older
    pytest.skip("the archive has no second version of any package of the host")


def test_dpkg_install_of_a_file(environment: Environment, shared: Path) -> None:
    whole, needy, _ = Archive(environment, shared).add(
        program("whole"), program("needy", Depends="needed"), program("needed")
    )
    change(environment, 'dpkg -i "$1"', str(whole))
    assert environment.sh("whole") == "whole 1\n"
    assert_sound(environment)

    failed = attempt(environment, 'dpkg -i "$1"', str(needy))
    assert failed.returncode == 1, describe(failed)
    assert "needy depends on needed" in failed.stderr
    assert states(environment, "need*") == {"needy": "iU 1"}
    assert "needy" in environment.audit()
    environment.apt("-f", "install")
    assert states(environment, "need*") == {"needed": "ii 1", "needy": "ii 1"}
    assert environment.sh("needy; needed") == "needy 1\nneeded 1\n"
    assert_sound(environment)


@pytest.mark.parametrize("alone", [True, False], ids=["last-session", "joined"])
def test_interrupted_install(environment: Environment, shared: Path, alone: bool) -> None:
    """apt and dpkg are killed while a package is configured; dpkg --configure -a in a new session repairs that."""
    blocks_once = "#!/bin/sh -e\n[ ! -p /var/lib/stuck ] || exit 0\nmkfifo /var/lib/stuck\nread line < /var/lib/stuck\n"
    Archive(environment, shared).add(Deb("stuck", scripts={"postinst": blocks_once}), program("later"))
    keeper = None if alone else _started(environment, "read line")
    installer = _started(environment, "exec apt-get -q -y -o Dpkg::Use-Pty=0 install stuck")
    wait_for(lambda: environment.exec("test", "-p", "/var/lib/stuck").returncode == 0)
    kept = None if keeper is None else keeper.pid
    victims = [process for process in environment.tool.status(environment.name)["processes"] if process["pid"] != kept]
    assert {"apt-get", "dpkg"} <= {Path(process["command"].split()[0]).name for process in victims}
    environment.sh('kill -KILL "$@"', *(str(process["pid"]) for process in victims))
    assert finish(installer).returncode != 0
    assert environment.tool.status(environment.name)["running"] is not alone

    assert states(environment, "stuck") == {"stuck": "iF 1"}
    assert "stuck" in environment.audit()
    refused = attempt(environment, "apt-get -q -y install later")
    assert refused.returncode == 100, describe(refused)
    assert "dpkg --configure -a" in refused.stderr
    change(environment, "dpkg --configure -a")
    environment.apt("install", "later")
    assert states(environment, "stuck", "later") == {"later": "ii 1", "stuck": "ii 1"}
    if keeper is not None:
        succeeded(finish(keeper, "\n"))
    assert_sound(environment)


def _started(environment: Environment, script: str) -> subprocess.Popen[str]:
    """A session that is under way."""
    guarded = '[ "$SYSENV_NS" = "$1" ] || exit 99; echo ready; ' + script
    process = environment.tool.start("exec", environment.name, "--", "sh", "-ec", guarded, "sh", environment.name)
    assert line(process) == "ready\n"
    return process


def test_diversion_of_a_file_of_the_host(environment: Environment, mirror: Mirror) -> None:
    """It survives a reinstallation of the package that owns the file."""
    size = Path("/usr/bin/cmp").stat().st_size
    mirror.provide(environment, "--reinstall", "diffutils")
    change(
        environment,
        """
        dpkg-divert --add --rename /usr/bin/cmp
        printf '#!/bin/sh\\necho mine\\n' > /usr/bin/cmp; chmod 755 /usr/bin/cmp
        """,
    )
    assert environment.sh("cmp") == "mine\n"
    assert environment.sh("stat -c %s /usr/bin/cmp.distrib; cmp.distrib /etc/passwd /etc/passwd") == f"{size}\n"
    environment.sh("rm /usr/bin/cmp.distrib")
    environment.apt("install", "--reinstall", "diffutils")
    assert environment.sh("cmp; cmp.distrib /etc/passwd /etc/passwd") == "mine\n"
    assert_sound(environment)
    change(environment, "rm /usr/bin/cmp; dpkg-divert --remove --rename /usr/bin/cmp")
    assert environment.sh("cmp /etc/passwd /etc/passwd; ls /usr/bin/cmp*").split() == ["/usr/bin/cmp"]
    assert environment.sh("dpkg-divert --list /usr/bin/cmp; dpkg --verify diffutils") == ""
    assert_sound(environment)


def test_diversion_and_statoverride_survive_an_upgrade(environment: Environment, shared: Path) -> None:
    archive = Archive(environment, shared)
    archive.add(program("trip"), program("tool"))
    environment.apt("install", "trip", "tool")
    change(
        environment,
        """
        dpkg-divert --local --divert /usr/bin/trip.theirs --add --rename /usr/bin/trip
        ln -s /bin/true /usr/bin/trip
        dpkg-statoverride --update --add games daemon 2751 /usr/bin/tool
        """,
    )
    owner = "games:daemon" if environment.tool.mode == "full" else "root:root"
    ask = "trip; trip.theirs; tool; stat -c %U:%G:%a /usr/bin/tool"
    assert environment.sh(ask).splitlines() == ["trip 1", "tool 1", f"{owner}:2751"]
    archive.add(program("trip", "2"), program("tool", "2"))
    environment.apt("upgrade")
    assert environment.sh(ask).splitlines() == ["trip 2", "tool 2", f"{owner}:2751"]
    assert environment.sh("dpkg-statoverride --list /usr/bin/tool") == "games daemon 2751 /usr/bin/tool\n"
    change(
        environment,
        """
        dpkg-statoverride --remove /usr/bin/tool
        rm /usr/bin/trip; dpkg-divert --local --remove --rename /usr/bin/trip
        """,
    )
    environment.apt("install", "--reinstall", "tool")
    assert environment.sh("trip; stat -c %U:%G:%a /usr/bin/tool") == "trip 2\nroot:root:755\n"
    assert_sound(environment)


def test_statoverride_of_a_file_of_the_host(environment: Environment) -> None:
    change(environment, "dpkg-statoverride --update --add games daemon 4711 /usr/bin/cmp")
    owner = "games:daemon" if environment.tool.mode == "full" else "root:root"
    assert environment.sh("stat -c %U:%G:%a /usr/bin/cmp; cmp /etc/passwd /etc/passwd") == f"{owner}:4711\n"
    assert_sound(environment)


def test_alternatives(environment: Environment) -> None:
    """Of programs that are no links on any release: Ubuntu 26.04 has two sets of coreutils."""
    install = 'update-alternatives --install /usr/bin/trip-tool trip-tool "$1" "$2"'
    change(environment, install, "/usr/bin/grep", "20")
    change(environment, install, "/usr/bin/sed", "10")
    target = "readlink -f /usr/bin/trip-tool"
    assert environment.sh(target) == "/usr/bin/grep\n"
    change(environment, "update-alternatives --set trip-tool /usr/bin/sed")
    assert environment.sh(f"{target}; echo a | trip-tool p") == "/usr/bin/sed\na\na\n"
    change(environment, "update-alternatives --remove trip-tool /usr/bin/sed")
    assert environment.sh(target) == "/usr/bin/grep\n"
    change(environment, "update-alternatives --remove-all trip-tool")
    assert environment.exec("test", "-L", "/usr/bin/trip-tool").returncode == 1
    assert_sound(environment)


@pytest.mark.parametrize("name", ["editor", "pager", "awk"])
def test_alternative_of_the_host(new_environment: Environment, name: str) -> None:
    link = Path("/etc/alternatives") / name
    if not link.is_symlink():
        pytest.skip(f"the host has no alternatives for {name}")
    query = 'update-alternatives --query "$1" | sed -n s/^Value:\\ //p'
    before = new_environment.sh(query, name)
    assert before == f"{link.readlink()}\n"
    change(new_environment, 'update-alternatives --install "/usr/bin/$1" "$1" /usr/bin/grep 1', name)
    change(new_environment, 'update-alternatives --set "$1" /usr/bin/grep', name)
    assert new_environment.sh(f'{query}; readlink -f "$(command -v "$1")"', name).split() == ["/usr/bin/grep"] * 2
    change(new_environment, 'update-alternatives --auto "$1"; update-alternatives --remove "$1" /usr/bin/grep', name)
    assert new_environment.sh(f'{query}; readlink "/etc/alternatives/$1"', name) == before * 2
    assert_sound(new_environment)


def test_debconf_answers(environment: Environment, shared: Path) -> None:
    """Given beforehand, they reach a package that asks; a reconfiguration takes new ones; purging forgets them."""
    begin = "#!/bin/sh -e\n. /usr/share/debconf/confmodule\n"
    quiz = Deb(
        "quiz",
        fields={"Depends": "debconf"},
        scripts={
            "templates": "Template: quiz/answer\nType: string\nDefault: none\nDescription: The answer?\n",
            "config": f"{begin}db_input high quiz/answer || true\ndb_go || true\n",
            "postinst": f'{begin}db_get quiz/answer\necho "$RET" > /etc/quiz\n',
            "postrm": f'{begin}[ "$1" = purge ] || exit 0\ndb_purge\nrm /etc/quiz\n',
        },
    )
    Archive(environment, shared).add(quiz)
    preseed = 'echo "quiz quiz/answer string $1" | debconf-set-selections'
    change(environment, preseed, "forty-two")
    environment.apt("install", "quiz")
    assert environment.sh("cat /etc/quiz; debconf-show quiz") == "forty-two\n* quiz/answer: forty-two\n"
    change(environment, f"{preseed}; dpkg-reconfigure quiz", "fifty-four")
    assert environment.sh("cat /etc/quiz; debconf-show quiz") == "fifty-four\n* quiz/answer: fifty-four\n"
    environment.apt("purge", "quiz")
    assert environment.sh("debconf-show quiz; ls /etc/quiz* 2>/dev/null || true") == ""
    assert_sound(environment)

"""Where packages come from: repositories with keys, sources that are built, and other front ends than apt-get."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .debs import Archive, assert_sound, attempt, change, program, states
from .mirror import Mirror
from .support import Environment, describe

pytestmark = pytest.mark.modes("full", more=("single",))

_TOOLS = ("gnupg", "dpkg-dev", "apt-utils")
_KEY = """
export GNUPGHOME=/root/keys
mkdir -m 700 /root/keys
gpg --batch --passphrase '' --quick-generate-key 'Trip <trip@localhost>' default sign never
mkdir -p /etc/apt/keyrings /srv/archive
gpg --export > /etc/apt/keyrings/trip.gpg
gpgconf --kill all
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
printf '%s\\n' 'Types: deb' 'URIs: file:/srv/archive' 'Suites: ./' 'Signed-By: /etc/apt/keyrings/trip.gpg' \\
    > /etc/apt/sources.list.d/trip.sources
"""
_PUBLISH = """
export GNUPGHOME=/root/keys
cd /srv/archive
cp "$1" .
dpkg-scanpackages --multiversion . > Packages
rm -f InRelease Release Release.gpg
apt-ftparchive -o APT::FTPArchive::Release::Origin=Trip release . > ../Release
mv ../Release .
gpg --batch --clearsign -o InRelease Release
gpg --batch --armor --detach-sign -o Release.gpg Release
gpgconf --kill all
"""


def test_signed_repository(environment: Environment, shared: Path, mirror: Mirror) -> None:
    """What the key has signed is taken; what it has not is refused, and what was installed stays."""
    drafts = shared / f"{environment.name}-drafts"
    drafts.mkdir()
    first, second = (str(program("trip", version).build(drafts)) for version in ("1", "2"))
    mirror.install(environment, *_TOOLS)
    change(environment, _KEY)
    change(environment, _PUBLISH, first)
    environment.install("trip")
    assert environment.sh("trip") == "trip 1\n"

    change(environment, _PUBLISH, second)
    change(environment, "cp -r /srv/archive /srv/good; sed -i s/Trip/Trap/ /srv/archive/*Release")
    _assert_refused(environment, "BADSIG")
    change(environment, "rm /srv/archive/InRelease /srv/archive/Release.gpg")
    _assert_refused(environment, "is (not|no longer) signed")
    change(environment, "rm -r /srv/archive; cp -r /srv/good /srv/archive; sed -i s/trip/trap/ /srv/archive/Packages")
    _assert_refused(environment, "Hash Sum mismatch|unexpected size")
    change(environment, "rm -r /srv/archive; mv /srv/good /srv/archive; mv /etc/apt/keyrings/trip.gpg /srv")
    _assert_refused(environment, "NO_PUBKEY|public key is not available")

    change(environment, "mv /srv/trip.gpg /etc/apt/keyrings")
    environment.install("trip")
    environment.apt("upgrade")
    assert environment.sh("trip") == "trip 2\n"
    assert_sound(environment)


def _assert_refused(environment: Environment, pattern: str) -> None:
    update = attempt(environment, "apt-get -q update -o APT::Update::Error-Mode=any 2>&1")
    assert update.returncode == 100, describe(update)
    assert re.search(pattern, update.stdout), describe(update)
    environment.apt("upgrade")
    assert states(environment, "trip") == {"trip": "ii 1"}


@pytest.mark.slow
def test_build_from_source(environment: Environment) -> None:
    change(
        environment,
        """
        rm -f /var/lib/man-db/auto-update
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
            [ ! -e "$file" ] || sed -i '/^deb /{p; s/^deb /deb-src /}' "$file"
        done
        for file in /etc/apt/sources.list.d/*.sources; do
            [ ! -e "$file" ] || sed -i 's/^Types: deb$/Types: deb deb-src/' "$file"
        done
        apt-get -q update
        # A host that has it already would leave build-dep nothing to do.
        ! command -v dh || apt-get -q -y -o Dpkg::Use-Pty=0 autoremove --purge debhelper
        apt-get -q -y -o Dpkg::Use-Pty=0 build-dep tree
        command -v dh
        mkdir /opt/sources; cd /opt/sources
        apt-get -q source tree
        """,
    )
    change(environment, "cd /opt/sources/tree-*/; dpkg-buildpackage -b -us -uc")
    change(environment, "cd /opt/sources; ls tree_*.buildinfo tree_*.changes; dpkg -i tree_*.deb")
    assert environment.sh("tree --noreport /opt/sources").startswith("/opt/sources\n")
    assert environment.sh("dpkg --verify tree") == ""
    assert_sound(environment)


def test_apt(small_environment: Environment, shared: Path) -> None:
    Archive(small_environment, shared).add(program("trip", Depends="trip-map"), program("trip-map"))
    assert "trip/" in change(small_environment, "apt update; apt search '^trip$'; apt -y install trip")
    assert small_environment.sh("trip") == "trip 1\n"
    assert re.search(r"^trip/.* 1 all \[installed", small_environment.sh("apt list --installed trip"), re.MULTILINE)
    change(small_environment, "apt -y remove trip")
    assert states(small_environment, "trip*") == {"trip": "rc 1", "trip-map": "ii 1"}
    change(small_environment, "apt -y autoremove --purge; apt -y purge trip")
    assert states(small_environment, "trip*") == {}
    assert_sound(small_environment)


def test_aptitude(environment: Environment, shared: Path, mirror: Mirror) -> None:
    mirror.install(environment, "aptitude")
    archive = Archive(environment, shared)
    archive.add(program("trip", Depends="trip-map"), program("trip-map"))
    change(environment, "aptitude -y install trip")
    assert environment.sh("trip; trip-map") == "trip 1\ntrip-map 1\n"
    archive.add(program("trip", "2", Depends="trip-map"))
    change(environment, "aptitude -y safe-upgrade")
    assert environment.sh("trip") == "trip 2\n"
    change(environment, "aptitude -y remove trip")  # what came with it goes with it
    assert states(environment, "trip*") == {"trip": "rc 2", "trip-map": "rc 1"}
    change(environment, "aptitude -y purge trip trip-map")
    assert states(environment, "trip*") == {}
    assert_sound(environment)

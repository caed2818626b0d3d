"""Package managers of other distributions, as Debian ships them: rpm, dnf and pacman."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import pytest

from .mirror import Mirror
from .support import Environment, describe, succeeded

pytestmark = pytest.mark.modes("full", "single")

# Programs, configuration and data of another owner, for both kinds of packages.
_FILES = """
mkdir -p usr/bin etc var/lib/greet
printf '#!/bin/sh\\necho greet %s\\n' "$version" > usr/bin/greet
chmod 755 usr/bin/greet
echo word=hello$version > etc/greet.conf
echo 0 > var/lib/greet/score
"""
_OWNED = ("/var/lib/greet", "/var/lib/greet/score")
_LOG = "/var/log/greet.log"

# A database of rpm that starts empty knows no shell, so the package says that it has one.
_SPEC = r"""
Name: greet
Version: %{version}
Release: 1
Summary: Greets
License: GPL
BuildArch: noarch
Provides: /bin/sh
%description
Greets.
%install
cd %{buildroot}
version=%{version}
FILES
%files
/usr/bin/greet
%config(noreplace) /etc/greet.conf
%attr(2750,games,adm) %dir /var/lib/greet
%attr(640,games,adm) /var/lib/greet/score
%post
echo "post $1 $(id -u)" >> /var/log/greet.log
%preun
echo "preun $1" >> /var/log/greet.log
""".replace("FILES", _FILES)

_RPMBUILD = """
mkdir -p /srv/rpm
cat > /srv/rpm/greet.spec
for version in 1 2; do
    rpmbuild --quiet -bb --define '_topdir /srv/rpm' --define "version $version" /srv/rpm/greet.spec
done
mv /srv/rpm/RPMS/noarch/*.rpm /srv
"""


def _add(environment: Environment, mirror: Mirror, *packages: str) -> None:
    mirror.install(environment, "--no-install-recommends", *packages)


def _on_host() -> list[Path]:
    return [path for path in map(Path, ("/usr/bin/greet", "/etc/greet.conf", *_OWNED, _LOG)) if path.exists()]


def _owners(environment: Environment) -> list[str]:
    return environment.sh('stat -c %U:%G:%a "$@"', *_OWNED).splitlines()


def _expected_owners(environment: Environment) -> list[str]:
    # In the single map the modes are real and the owners are not.
    owner = "games:adm" if environment.tool.mode == "full" else "root:root"
    return [f"{owner}:2750", f"{owner}:640"]


def _rpm(environment: Environment, *arguments: str) -> None:
    """rpm, which must succeed and complain about nothing but that this is Debian."""
    result = succeeded(environment.exec("rpm", *arguments))
    assert all(line.startswith("rpm: ") for line in result.stderr.splitlines()), describe(result)


def test_rpm(environment: Environment, mirror: Mirror) -> None:
    _add(environment, mirror, "rpm")
    environment.sh(_RPMBUILD, stdin=_SPEC)
    _rpm(environment, "-i", "/srv/greet-1-1.noarch.rpm")
    assert environment.sh("greet; rpm -qf /usr/bin/greet").splitlines() == ["greet 1", "greet-1-1.noarch"]
    assert _owners(environment) == _expected_owners(environment)
    _check_verification(environment)
    environment.sh("echo word=mine > /etc/greet.conf")
    assert "/etc/greet.conf\n" in environment.exec("rpm", "-V", "greet").stdout
    upgrade = succeeded(environment.exec("rpm", "-U", "/srv/greet-2-1.noarch.rpm"))
    assert "warning: /etc/greet.conf created as /etc/greet.conf.rpmnew" in upgrade.stderr
    assert environment.sh("greet; cat /etc/greet.conf; rpm -q greet").split("\n")[:-1] == [
        "greet 2",
        "word=mine",
        "greet-2-1.noarch",
    ]
    succeeded(environment.exec("rpm", "-e", "greet"))
    assert environment.exec("rpm", "-q", "greet").stdout == "package greet is not installed\n"
    environment.sh("test ! -e /usr/bin/greet; test ! -e /var/lib/greet; test -e /etc/greet.conf.rpmsave")
    assert environment.sh(f"cat {_LOG}").splitlines() == ["post 1 0", "post 2 0", "preun 1", "preun 0"]
    # Debian 12's rpm keeps its database in the home of whoever calls it: in the single map root's is the user's own.
    environment.sh("test -s $(rpm --eval %_dbpath)/rpmdb.sqlite")
    in_home = environment.tool.account.home / ".rpmdb"
    assert in_home.exists() is (environment.tool.mode == "single")
    shutil.rmtree(in_home, ignore_errors=True)
    assert _on_host() == []


def _check_verification(environment: Environment) -> None:
    """rpm finds what it has installed unchanged, but for the owners that the single map has not."""
    result = environment.exec("rpm", "-V", "greet")
    wrong = [] if environment.tool.mode == "full" else [f".....UG..    {path}" for path in _OWNED]
    assert result.stdout.splitlines() == wrong, describe(result)
    assert result.returncode == (1 if wrong else 0)
    # The remedies for that do their best and no harm.
    _rpm(environment, "--restore", "greet")
    assert environment.exec("rpm", "-V", "greet").stdout == result.stdout


@pytest.mark.modes("full", more=("single",))
def test_dnf(environment: Environment, mirror: Mirror) -> None:
    _add(environment, mirror, "dnf", "createrepo-c", "rpm")
    environment.sh(_RPMBUILD, stdin=_SPEC)
    environment.sh(
        """
        mkdir -p /srv/repository /etc/yum.repos.d
        printf '[here]\\nname=here\\nbaseurl=file:///srv/repository\\ngpgcheck=0\\n' > /etc/yum.repos.d/here.repo
        mv /srv/greet-1-1.noarch.rpm /srv/repository
        createrepo_c -q /srv/repository
        """
    )
    environment.sh("dnf -y install greet")
    assert environment.sh("greet; rpm -q greet").splitlines() == ["greet 1", "greet-1-1.noarch"]
    assert _owners(environment) == _expected_owners(environment)
    environment.sh("mv /srv/greet-2-1.noarch.rpm /srv/repository; createrepo_c -q --update /srv/repository")
    environment.sh("dnf -y --refresh upgrade")
    assert "greet.noarch" in environment.sh("dnf -q list --installed")
    assert environment.sh("greet") == "greet 2\n"
    environment.sh("dnf -y downgrade greet-1")
    assert environment.sh("greet") == "greet 1\n"
    environment.sh("dnf -y remove greet; test ! -e /usr/bin/greet; test ! -e /var/lib/greet")
    assert environment.sh("rpm -qa") == ""
    # A local file, without the repository.
    environment.sh("dnf -y --disablerepo='*' install /srv/repository/greet-2-1.noarch.rpm; greet")
    history = environment.sh("dnf history list").splitlines()
    assert [line.split("|")[0].strip() for line in history if line[:1] == " "] == ["5", "4", "3", "2", "1"]
    assert _on_host() == []


# The owners come from the description, not from the files: they are the same in both maps.
_PACMAN_PACKAGE = """
mkdir -p /srv/pacman/$version
cd /srv/pacman/$version
FILES
cat > .PKGINFO <<END
pkgname = greet
pkgver = $version-1
pkgdesc = Greets
arch = any
size = 42
backup = etc/greet.conf
END
cat > .INSTALL <<'END'
post_install() { echo "post $1 $(id -u)" >> /var/log/greet.log; }
post_upgrade() { echo "upgrade $1 $2" >> /var/log/greet.log; }
pre_remove() { echo "remove $1" >> /var/log/greet.log; }
END
cat > owners <<END
#mtree
/set uid=0 gid=0 uname=root gname=root mode=644 type=file
.PKGINFO
.INSTALL
usr type=dir mode=755
..
usr/bin type=dir mode=755
usr/bin/greet mode=755
etc type=dir mode=755
..
etc/greet.conf
var type=dir mode=755
..
var/lib type=dir mode=755
var/lib/greet type=dir mode=2750 uid=5 gid=4 uname=games gname=adm
var/lib/greet/score mode=640 uid=5 gid=4 uname=games gname=adm
END
bsdtar -cz --format=mtree --options='!all,use-set,type,uid,gid,mode,time,size,md5,sha256,link' -f .MTREE @owners
sed -i 's/^\\.PKGINFO$/&\\n.MTREE/' owners
bsdtar -c -f - @owners | zstd -q > /srv/greet-$version-1-any.pkg.tar.zst
""".replace("FILES", _FILES)


@pytest.mark.modes("full", more=("single",))
def test_pacman(environment: Environment, mirror: Mirror) -> None:
    _add(environment, mirror, "pacman-package-manager", "makepkg", "libarchive-tools", "zstd")
    for version in "12":
        environment.sh(f"version={version}\n{_PACMAN_PACKAGE}")
    install = succeeded(environment.exec("pacman", "-U", "--noconfirm", "/srv/greet-1-1-any.pkg.tar.zst"))
    assert install.stderr == ""
    assert environment.sh("greet; pacman -Q; pacman -Qoq /usr/bin/greet").splitlines() == [
        "greet 1",
        "greet 1-1",
        "greet",
    ]
    assert _owners(environment) == _expected_owners(environment)
    check = environment.exec("pacman", "-Qkk", "greet")
    full = environment.tool.mode == "full"
    assert check.stdout.endswith(f" {0 if full else 2} altered files\n"), describe(check)
    assert check.stderr.splitlines() == [
        f"warning: greet: {path} ({kind} mismatch)" for path in _OWNED for kind in ("UID", "GID") if not full
    ]
    environment.sh("echo word=mine > /etc/greet.conf")
    environment.sh(
        """
        mkdir /srv/repository
        mv /srv/greet-2-1-any.pkg.tar.zst /srv/repository
        repo-add -q /srv/repository/here.db.tar.gz /srv/repository/greet-2-1-any.pkg.tar.zst
        printf '[here]\\nSigLevel = Optional TrustAll\\nServer = file:///srv/repository\\n' >> /etc/pacman.conf
        """
    )
    environment.sh("pacman -Syu --noconfirm")
    assert environment.sh("greet; cat /etc/greet.conf; ls /etc/greet.conf.pacnew").splitlines() == [
        "greet 2",
        "word=mine",
        "/etc/greet.conf.pacnew",
    ]
    environment.sh("pacman -R --noconfirm greet; test ! -e /usr/bin/greet; test ! -e /var/lib/greet")
    assert environment.exec("pacman", "-Q").stdout == ""
    environment.sh("pacman -S --noconfirm greet; greet")
    assert environment.sh(f"cat {_LOG}").splitlines() == [
        "post 1-1 0",
        "upgrade 2-1 1-1",
        "remove 2-1",
        "post 2-1 0",
    ]
    assert _on_host() == []


_PKGBUILD = textwrap.dedent(
    """\
    pkgname=greet
    pkgver=1
    pkgrel=1
    arch=(any)
    package() {
        install -D -m 755 /usr/bin/true "$pkgdir/usr/bin/greet"
        install -d -o games -g adm -m 2750 "$pkgdir/var/lib/greet"
    }
    """
)


@pytest.mark.modes("full")
def test_makepkg_as_the_user(environment: Environment, mirror: Mirror) -> None:
    """makepkg refuses to run as root, and takes fakeroot for the owners in the package."""
    _add(environment, mirror, "pacman-package-manager", "makepkg", "libarchive-tools", "zstd")
    environment.sh('install -d -o "$1" /srv/package', environment.tool.account.name)
    environment.me("cd /srv/package; cat > PKGBUILD; PKGEXT=.pkg.tar.zst makepkg", stdin=_PKGBUILD)
    environment.me("sudo -n pacman -U --noconfirm /srv/package/greet-1-1-any.pkg.tar.zst")
    assert environment.sh("greet; stat -c %U:%G:%a /usr/bin/greet /var/lib/greet").splitlines() == [
        "root:root:755",
        "games:adm:2750",
    ]
    assert _on_host() == []

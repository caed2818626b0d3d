"""The Debian package and the archives for PyPI on fresh systems: built, checked, installed, used and removed again.

What can be said of them without building them is in tests/unit/test_distribution.py.
"""

from __future__ import annotations

import pytest

from . import releases

_DEB = f"""\
export DEBIAN_FRONTEND=noninteractive
find / -xdev -name '*sysenv*' -not -path '/srv/*' >/root/before
apt-get -q update
apt-get -q -y install --no-install-recommends man-db mandoc lintian
apt-get -q -y build-dep ./
chown tester /srv
su tester -c 'HOME=/nonexistent dpkg-buildpackage -us -uc'
su tester -c 'lintian --fail-on error,warning ../*.changes'
apt-get -q -y install ../sysenv-ns_*_all.deb
command -v newuidmap
dpkg-deb --fsys-tarfile ../sysenv-ns_*_all.deb | tar --list | grep '/man1/.*1.gz$' >/root/pages
(cd / && xargs zcat -f </root/pages | mandoc -T lint -W warning)
[ "$(wc -l </root/pages)" -gt 30 ]
{releases.UIDMAP}
cd /
su tester -c '/srv/sysenv-ns/debian/tests/session'
su tester -c 'man sysenv-ns-exec | grep -A3 workdir'
su tester -c "bash -c '. /usr/share/bash-completion/completions/sysenv-ns; complete -p sysenv-ns'"
mkdir -p /etc/systemd/system/multi-user.target.wants
echo unit >/etc/systemd/system/sysenv-ns-1000.service
ln -s ../sysenv-ns-1000.service /etc/systemd/system/multi-user.target.wants/
apt-get -q -y purge sysenv-ns
! command -v sysenv-ns
find / -xdev -name '*sysenv*' -not -path '/srv/*' -not -path '/home/*' >/root/after
diff /root/before /root/after
"""

_ARCHIVES = f"""\
su tester -c 'git init -q . && git add .'
python3 -m venv /opt/builder
/opt/builder/bin/pip -q install build
PATH=/opt/builder/bin:$PATH /opt/builder/bin/python helpers/dist --url https://example.org/sysenv-ns /srv/dist
cd /srv/dist
/opt/builder/bin/python -m tarfile -e sysenv_ns-*.tar.gz /srv/unpacked
cd /srv/unpacked/*
grep -q 'https://example.org/sysenv-ns/blob/v[0-9.]*/docs/config.md' PKG-INFO
! grep -E '\\]\\((docs/|SECURITY|CHANGELOG)' PKG-INFO
test -f docs/sync.md && test -f tests/unit/test_manual.py && test -x helpers/test && test -x debian/rules
python3 -m venv /opt/tool
/opt/tool/bin/pip -q install /srv/dist/*.whl
ln -s /opt/tool/bin/sysenv-ns /usr/local/bin/
{releases.UIDMAP}
su tester -c ./debian/tests/session
"""


@pytest.mark.matrix
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_the_debian_package(release: str) -> None:
    said = releases.run(release, _DEB)
    assert "Hello, world!" in said
    assert "--workdir DIR" in said


@pytest.mark.matrix
@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_the_archives_for_pypi(release: str) -> None:
    assert "Hello, world!" in releases.run(release, _ARCHIVES, "--add", "python3-venv,uidmap")

"""Links of an environment lead to what is the environment's: nothing of the host's owner gets into what is published.

Whoever is root in an environment, a package's script for one, plants them. Its user freezes it, and commits that.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.support import Environment, succeeded

pytestmark = pytest.mark.modes("full", "root")

_MARK = "MUSTNOTBEPUBLISHED"
# Where a secret of the user's is, and how it looks: also as what a parser of that place would take over.
_SECRETS = {
    ".ssh/id_rsa": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{_MARK}\n",
    ".ssh/k.asc": f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n{_MARK}\n",
    ".ssh/x.list": f"deb [trusted=yes] https://user:{_MARK}@example.invalid/ x main\n",
    ".ssh/config.dat": f"Name: m/q\nTemplate: m/q\nValue: {_MARK}\nOwners: bash\nFlags: seen\n\n",
    ".ssh/templates.dat": "Name: m/q\nType: string\nDescription: q\nOwners: bash\n\n",
    ".ssh/passwd": f"{_MARK}:x:4711:4711::/:/bin/sh\n",
    ".ssh/manifest.json": json.dumps(
        {
            "version": 1,
            "file": "x",
            "manifest": f'packages = []\n[files]\n"/etc/m" = "{_MARK}"\n[[scripts]]\nrun = "{_MARK}"\n',
            "digests": {},
            "known": [],
        }
    ),
}


@pytest.fixture
def home(environment: Environment) -> Iterator[Path]:
    """The user's home with secrets in it."""
    account = environment.tool.account
    made = [account.home / name for name in _SECRETS]
    made[0].parent.mkdir(mode=0o755, exist_ok=True)
    for path, text in zip(made, _SECRETS.values(), strict=True):
        path.write_text(text)
        os.chown(path, account.uid, account.gid)
    yield account.home
    for path in made:
        path.unlink()


def _freeze(environment: Environment) -> str:
    """What freeze prints, in which there is no secret in any form."""
    text = succeeded(environment.tool.run("freeze", environment.name)).stdout
    assert _MARK not in text
    encoded = {base64.b64encode(f"{prefix}{_MARK}".encode())[4:-4] for prefix in ("", "x", "xx")}
    found = base64_texts(tomllib.loads(text))
    assert not any(_MARK.encode() in data for data in found)
    assert not any(piece.decode() in text.replace("\n", "") for piece in encoded)
    return text


def base64_texts(value: object) -> Iterator[bytes]:
    """All texts of a document that are base64, decoded."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from base64_texts(inner)
    elif isinstance(value, str):
        with contextlib.suppress(ValueError):
            yield base64.b64decode("".join(value.split()), validate=True)


# By the name of the key that the link is in place of; each is planted with what it needs.
_KEYS = {
    "absolute": "ln -s $H/.ssh/k.asc $K",
    "relative": "ln -s ../../..$H/.ssh/k.asc $K",
    "beyond": "ln -s ../../../../../../../..$H/.ssh/k.asc $K",
    "chain": "ln -s $H/.ssh/k.asc /opt/hop; ln -s ../opt/hop /etc/hop; ln -s /etc/hop $K",
    "way": "ln -s $H/.ssh /opt/ssh; ln -s /opt/ssh/k.asc $K",
    "up": "ln -s $H/.ssh /opt/up; ln -s /opt/up/../.ssh/k.asc $K",
    "proc": "ln -s /proc/self/root$H/.ssh/k.asc $K",
    "cwd": "ln -s /proc/self/cwd/.ssh/k.asc $K",
    "scratch": "cp $H/.ssh/k.asc /var/tmp/$N.asc; ln -s /var/tmp/$N.asc $K",
    # more of them than the kernel follows
    "many": "ln -s $H/.ssh/k.asc /opt/0; for i in $(seq 60); do ln -s $((i - 1)) /opt/$i; done; ln -s /opt/60 $K",
    "deep": "ln -s $H/.ssh /srv/0; for i in $(seq 60); do ln -s $((i - 1)) /srv/$i; done; ln -s /srv/60/k.asc $K",
    # the environment's own, but not for everybody
    "private": f"mkdir -m 700 /opt/private; echo {_MARK} > /opt/private/k.asc; ln -s /opt/private/k.asc $K",
    "root": f"echo {_MARK} > /root/k.asc; ln -s /root/k.asc $K",
    "passwords": f"echo 'x:{_MARK}:1::::::' >> /etc/shadow; ln -s /etc/shadow $K",
}
_FILES = f"""
ln -s $H/.ssh/x.list /etc/apt/sources.list.d/link.list
ln -sf $H/.ssh/x.list /etc/apt/sources.list
echo "deb [signed-by=$H/.ssh/id_rsa] http://x.invalid/ x main" > /etc/apt/sources.list.d/signed.list
echo 'deb https://u:{_MARK}@x.invalid/ x main' > /etc/apt/sources.list.d/secret.list
chmod 600 /etc/apt/sources.list.d/secret.list
ln -sf $H/.ssh/config.dat /var/cache/debconf/config.dat
ln -sf $H/.ssh/templates.dat /var/cache/debconf/templates.dat
ln -sf $H/.ssh/passwd /etc/passwd
mkdir -p /var/lib/sysenv-ns
ln -s $H/.ssh/manifest.json /var/lib/sysenv-ns/manifest.json
ln -s $H/.ssh/id_rsa /etc/mine.conf
ln -s $H/.ssh /etc/mine.d
ln -sf $H/.ssh/id_rsa /etc/bash.bashrc
ln -sf $H/.ssh/id_rsa /var/lib/dpkg/info/bash.postinst
"""
# The user's directory in place of those of apt, of debconf, of what was synced.
_DIRECTORIES = """
for directory in /etc/apt/keyrings /etc/apt/trusted.gpg.d /etc/apt/sources.list.d /var/cache/debconf /var/lib/sysenv-ns
do rm -rf $directory || continue; ln -s $H/.ssh $directory; done  # in the last the host may have something of its own
"""
_ALL_OF_APT = """
rm -rf /etc/apt; mkdir -p /opt/apt; ln -s /opt/apt /etc/apt
ln -s $H/.ssh /opt/apt/keyrings; ln -s $H/.ssh /opt/apt/sources.list.d
"""


def test_nothing_of_the_users_is_frozen(environment: Environment, home: Path) -> None:
    def run(script: str) -> None:
        environment.sh(f"H=$1 N=$2\n{script}", str(home), f"sysenv-{os.getpid()}")

    keys = (f"K=/etc/apt/keyrings/{name}.asc; {script}\n" for name, script in _KEYS.items())
    run("mkdir -p /etc/apt/keyrings /etc/apt/sources.list.d\n" + "".join(keys) + _FILES)
    text = _freeze(environment)
    Path("/var/tmp", f"sysenv-{os.getpid()}.asc").unlink()
    # What is a link is carried as one.
    files = tomllib.loads(text)["files"]
    links = {name for name in _KEYS if "link" in files.get(f"/etc/apt/keyrings/{name}.asc", {})}
    assert links == _KEYS.keys() - {"private", "passwords"}
    assert files["/etc/mine.conf"] == {"link": f"{home}/.ssh/id_rsa"}
    assert text.count("may hold a secret") >= 3
    for directories in (_DIRECTORIES, _ALL_OF_APT):
        run(directories)
        _freeze(environment)


def test_links_that_stay_in_the_system_are_followed(environment: Environment) -> None:
    """As packages and their vendors make them."""
    key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nx\n"
    environment.sh(
        'mkdir -p /etc/apt/keyrings /opt/vendor/v1; ln -s v1 /opt/vendor/now; printf %s "$1" > /opt/vendor/v1/k.asc;'
        "ln -s ../../../opt/vendor/now/k.asc /etc/apt/keyrings/k.asc",
        key,
    )
    text = succeeded(environment.tool.run("freeze", environment.name)).stdout
    assert tomllib.loads(text)["keys"] == {"/etc/apt/keyrings/k.asc": key}

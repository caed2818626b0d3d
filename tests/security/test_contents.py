"""Whatever lies where a verb reads a file, it ends soon, needs no memory for it, and waits for nothing.

Named pipes, sockets, directories, links to /dev/zero and to the user's secrets, and files of 3 GB without content, in
all places of an environment at once, and where the size alone decides in one place after the other.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.support import ROOT_RUN, Environment, Result, describe, succeeded

pytestmark = pytest.mark.modes("full")

_AMONG_FILES_OF_OTHERS = pytest.mark.skipif(not ROOT_RUN, reason="only root can put files among those of other ids")
_MARK = "MUSTNOTBESHOWN"
_PLACES = (
    *(f"var/lib/dpkg/{name}" for name in ("status", "diversions", "arch", "statoverride", "triggers/File")),
    *(f"var/lib/dpkg/info/aa.{kind}" for kind in ("list", "md5sums", "postinst", "triggers")),
    *("var/lib/apt/extended_states", "var/cache/apt/archives/hello_1_all.deb", "var/lib/dpkg/alternatives/aa"),
    *(f"var/cache/debconf/{name}.dat" for name in ("config", "templates", "passwords")),
    *("etc/passwd", "etc/group", "etc/mine", "etc/bash.bashrc", "etc/apt/sources.list", "etc/debian_chroot"),
    *("etc/apt/sources.list.d/a.list", "etc/apt/keyrings/a.asc", "etc/apt/keyrings/b.gpg", "usr/lib/os-release"),
    *("usr/share/applications/a.desktop", "usr/share/pixmaps/a.png", "var/lib/sysenv-ns/manifest.json"),
    "usr/local/bin/prog",
)
_KINDS = ("fifo", "socket", "directory", "zero", "secret")
# Of the second ones a verb that reads one is not kept from the others.
_SIZES = (("var/lib/dpkg/status",), ("var/lib/dpkg/info/aa.list", "etc/mine", "var/cache/apt/archives/hello_1_all.deb"))
_MEMORY = 1 << 30  # bytes of addresses
_PATIENCE = 60.0  # seconds


def _directory(path: Path) -> None:
    """Make it for whoever has the directory that it is in."""
    if not path.is_dir():
        _directory(path.parent)
        path.mkdir(mode=0o755)
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _put(path: Path, kind: str, secret: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    _directory(path.parent)
    match kind:
        case "fifo":
            os.mkfifo(path, 0o644)
        case "socket":
            directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(f"/proc/self/fd/{directory}/{path.name}")
            os.close(directory)
        case "directory":
            path.mkdir()
        case "sparse":
            path.touch()
            os.truncate(path, 3 * _MEMORY)
        case _:
            path.symlink_to("/dev/zero" if kind == "zero" else secret)
    owner = os.stat(path.parent)
    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@pytest.fixture
def environment(small_environment: Environment) -> Environment:
    """Of a small host, where the verbs that look at all packages have less to do."""
    return small_environment


@pytest.fixture
def secret(environment: Environment) -> Iterator[Path]:
    """A file of the user's that everybody may read, as the directory that it is in does not let them."""
    path = environment.tool.account.home / "secret"
    path.write_text(f"{_MARK}\n")
    yield path
    path.unlink()


def _verbs(name: str, directory: Path) -> list[tuple[str, ...]]:
    return [
        ("diff", name),
        ("diff", name, "--", "/etc", "/var/lib/dpkg"),
        ("freeze", name),
        ("sync", "--check", name, str(directory / "sysenv.toml")),
        ("status", name),
        ("apply", "--dry-run", name),
        ("rebase", "--dry-run", name),
        ("export", name, str(directory / "a.tar")),
        ("which", name, "prog"),
        ("link", "--desktop", name, "prog"),
    ]


def _run(environment: Environment, *arguments: str) -> Result:
    """A verb with little memory, which must end with a status and a sentence, without the secret."""
    tool = environment.tool
    limited = ("prlimit", f"--as={_MEMORY}", *tool.beginning)
    result = tool.run(*arguments, prefix=limited, limit=_PATIENCE)
    assert result.returncode in (0, 1, 2, 127), describe(result)
    assert not {"Traceback", "MemoryError", _MARK} & {*f"{result.stdout} {result.stderr}".split()}, describe(result)
    return result


@pytest.fixture
def directory(environment: Environment, tmp_path: Path) -> Path:
    """Where the user finds a manifest, and can write."""
    account = environment.tool.account
    made = account.home / "contents"
    made.mkdir(exist_ok=True)
    (made / "sysenv.toml").write_text('packages = ["hello"]\n[files]\n"/etc/mine" = "x"\n"/etc/passwd" = "y"\n')
    os.chown(made, account.uid, account.gid)
    return made


@_AMONG_FILES_OF_OTHERS
def test_what_is_no_file_is_not_read(environment: Environment, secret: Path, directory: Path, whole: bool) -> None:
    """Each place has another kind in each round."""
    environment.sh("echo x > /etc/mine; mkdir -p /etc/apt/keyrings /var/lib/sysenv-ns; touch /var/lib/dpkg/arch")
    upper = environment.tool.store / "envs" / environment.name / "upper"
    for turn in range(len(_KINDS) if whole else 2):
        for number, place in enumerate(_PLACES):
            _put(upper / place, _KINDS[(number + turn) % len(_KINDS)], secret)
        for verb in _verbs(environment.name, directory):
            _run(environment, *verb)
        (directory / "a.tar").unlink(missing_ok=True)


@_AMONG_FILES_OF_OTHERS
@pytest.mark.parametrize("places", _SIZES)
def test_what_is_too_long_is_not_read(
    environment: Environment, secret: Path, directory: Path, places: tuple[str, ...]
) -> None:
    environment.sh("echo x > /etc/mine; mkdir -p /etc/apt/keyrings; touch /var/lib/dpkg/arch")
    for place in places:
        _put(environment.tool.store / "envs" / environment.name / "upper" / place, "sparse", secret)
    for verb in _verbs(environment.name, directory):
        if verb[0] != "export":  # an archive has what there is
            _run(environment, *verb)


def test_a_manifest_that_is_no_file(environment: Environment, secret: Path, directory: Path) -> None:
    file = directory / "sysenv.toml"
    for kind in ("fifo", "socket", "directory", "zero", "sparse"):
        _put(file, kind, secret)
        assert _run(environment, "sync", environment.name, str(file)).returncode == 1
    for kind in ("fifo", "zero", "sparse"):
        file.unlink()
        file.write_text('[files]\n"/etc/mine" = { source = "x" }\n')
        _put(directory / "x", kind, secret)
        result = _run(environment, "sync", environment.name, str(file))
        assert result.returncode == 1
        assert "cannot be read" in result.stderr or "MiB" in result.stderr


def test_links_of_a_manifests_directory_stay_there(environment: Environment, secret: Path, directory: Path) -> None:
    """A stranger's manifest with what leads to the user's secrets beside it."""
    file = directory / "sysenv.toml"
    (directory / "up").symlink_to("..")
    (directory / "link").symlink_to(secret)
    (directory / "chain").symlink_to("link")
    (directory / "process").symlink_to("/proc/self/cwd/secret")
    for source in ("link", "chain", "up/secret", "process", "../secret", "./../secret", str(secret)):
        file.write_text(f'[files]\n"/etc/mine" = {{ source = "{source}" }}\n')
        result = _run(environment, "sync", "--check", environment.name, str(file))
        assert result.returncode == 2
        assert "/etc/mine" not in result.stdout
    succeeded(environment.tool.run("status", environment.name))

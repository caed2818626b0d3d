"""push and pull with a real registry: what is sent, what is fetched, and what becomes of all that can go wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sysenv_ns.archive import tarball
from sysenv_ns.archive.tarball import Member

from . import archives
from .registries import Registry, manifest, push
from .support import ROOT_RUN, Environment, Tool, finish, refused, succeeded, wait_for

pytestmark = pytest.mark.together

_SIGNER = "test@example.org"
_LARGE = "head -c 6000000 /dev/urandom > /opt/large; ln /opt/large /opt/second; rm -r /usr/share/doc/bash"


def _pull(environment: Environment, reference: str, name: str) -> Environment:
    succeeded(environment.tool.run("pull", reference, name))
    return environment.tool.environment(name)


def _frozen(environment: Environment) -> list[archives.Tree]:
    """Its frozen layers; in what is above them a new name shows."""
    return archives.trees(environment)[1:]


def _layers(registry: Registry, tool: Tool, reference: str, kind: str = "layers") -> dict[str, int]:
    """The digests and sizes of the layers that a reference names."""
    found = manifest(registry, tool, reference)["layers"]
    return {row["digest"]: row["size"] for row in found if row["annotations"]["sysenv-ns.tree"].startswith(kind)}


def _new_origins(registry: Registry, tool: Tool, repository: str, old: dict[str, Any], new: dict[str, Any]) -> int:
    """Bytes of what a push has of a later state of the host: other tests make users meanwhile."""
    before, after = (_layers(registry, tool, f"{repository}@{made['digest']}", "origins") for made in (old, new))
    return sum(size for digest, size in after.items() if digest not in before)


@pytest.mark.modes("full", more=("single",))
def test_what_is_new_is_sent_and_fetched(registry: Registry, repository: str, environment: Environment) -> None:
    tool, name = environment.tool, f"{environment.name}-pulled"
    environment.sh(_LARGE)
    first = push(environment, f"{repository}:1")
    assert first["sent"] == first["size"] > 6_000_000
    frozen = _layers(registry, tool, f"{repository}:1")
    again = push(environment, f"{repository}:1")
    assert _layers(registry, tool, f"{repository}:1") == frozen
    assert again["sent"] == _new_origins(registry, tool, repository, first, again)
    environment.sh("echo new > /opt/new")
    second = push(environment, f"{repository}:1")
    (new,) = _layers(registry, tool, f"{repository}:1").items() - frozen.items()
    assert new[1] < 1000
    assert second["sent"] == new[1] + _new_origins(registry, tool, repository, again, second)

    pulled = _pull(environment, f"{repository}@{second['digest']}", name)
    try:
        assert _frozen(pulled) == _frozen(environment)
        assert pulled.sh("cat /opt/new; stat -c %h /opt/large; ls -d /usr/share/doc/bash || :") == "new\n2\n"
        pulled.sh("echo more > /opt/more")
        push(pulled, f"{repository}:2")
        assert len(_layers(registry, tool, f"{repository}:2").items() - frozen.items()) == 2
    finally:
        tool.end(name)
    assert _pull(environment, f"{repository}:1", name).sh("cat /opt/new") == "new\n"
    tool.end(name)
    assert [path.name for path in (tool.store / "blobs").iterdir()] == ["sha256"]
    assert os.listdir(tool.store / "trash") == []


_CHANGE = """
mkdir -p /var/cache/man /var/cache/apt/archives /opt/d
for path in /opt/private /opt/d/log /opt/d/holes; do echo "$1" >> "$path"; done
chmod 600 /opt/private
for path in cache/man/index.db cache/apt/archives/x.deb cache/apt/archives/y.deb log/apt/eipp.log.xz; do
    mkdir -p "$(dirname "/var/$path")"; head -c 100000 /dev/urandom > "/var/$path"
done
"""


@pytest.mark.modes("full", more=("single",))
def test_of_a_changed_file_what_has_changed_is_sent(
    registry: Registry, repository: str, environment: Environment
) -> None:
    """Whatever was pushed or pulled before, and wherever; files that programs make anew are not sent at all."""
    tool, name = environment.tool, f"{environment.name}-pulled"
    environment.sh("mkdir /opt/d; cd /opt; for path in private d/log; do head -c 1000000 /dev/urandom > $path; done")
    environment.sh("truncate -s 1M /opt/d/holes; head -c 300000 /dev/urandom >> /opt/d/holes; ln /opt/d/log /opt/link")
    sizes = [sum(_pushed_layers(registry, environment, repository).values())]
    for number in range(3):
        environment.sh(_CHANGE, str(number))
        sizes.append(sum(_pushed_layers(registry, environment, repository).values()))
        if number == 0:
            succeeded(tool.run("snapshot", environment.name, "first"))
    assert 2_300_000 < sizes[0] < 2_400_000
    # A file that has another name is one of its own.
    assert 1_000_000 < sizes[1] - sizes[0] < 1_010_000, sizes
    assert max(sizes[3] - sizes[2], sizes[2] - sizes[1]) < 5000, sizes
    succeeded(tool.run("rollback", environment.name, "first"))
    environment.sh("echo branch >> /opt/private; ln /var/cache/apt/archives/x.deb /opt/x.deb")  # which is sent then
    layers = _pushed_layers(registry, environment, repository)

    pulled = _pull(environment, f"{repository}:1", name)
    try:
        _assert_same_but_for_caches(pulled, environment)
        pulled.sh("echo more >> /opt/private")
        new = _pushed_layers(registry, pulled, repository).items() - layers.items()
        assert sum(size for _, size in new) < 3000, new
        again = _pull(environment, f"{repository}:1", f"{name}-again")
        found = again.sh("tail -n 2 /opt/private; cd /var/cache/apt/archives; ls x.deb; ls y.deb || :")
        assert found == "branch\nmore\nx.deb\n"
        _assert_same_but_for_caches(again, pulled)
        tool.end(again.name)
    finally:
        tool.end(name)


def _pushed_layers(registry: Registry, environment: Environment, repository: str) -> dict[str, int]:
    """The layers of an environment, by digest with their sizes, once it was pushed."""
    push(environment, f"{repository}:1", "--force")
    return _layers(registry, environment.tool, f"{repository}:1")


def _assert_same_but_for_caches(one: Environment, other: Environment) -> None:
    names = (b"index.db", b"x.deb", b"y.deb", b"eipp.log.xz")
    left = [
        [{path: row for path, row in tree.items() if not path.endswith(names)} for tree in _frozen(environment)]
        for environment in (one, other)
    ]
    assert left[0] == left[1]


@pytest.mark.matrix
def test_snapshots_and_clones(registry: Registry, repository: str, environment: Environment) -> None:
    tool = environment.tool
    environment.sh(_LARGE)
    succeeded(tool.run("snapshot", environment.name, "large"))
    environment.sh("rm /opt/large /opt/second")
    push(environment, repository)
    clone = tool.environment(f"{environment.name}-clone")
    succeeded(tool.run("clone", environment.name, clone.name))
    clone.sh("echo cloned > /opt/cloned")
    push(clone, f"{repository}:clone")
    layers = [_layers(registry, tool, f"{repository}:{tag}").items() for tag in ("latest", "clone")]
    assert sum(size for _, size in layers[1] - layers[0]) < 2000
    tool.end(clone.name)
    pulled = _pull(environment, f"{repository}:latest", clone.name)
    succeeded(tool.run("rollback", pulled.name, "large"))
    assert pulled.sh("stat -c %s /opt/large") == "6000000\n"
    tool.end(clone.name)


def test_a_tag_that_moved(registry: Registry, repository: str, environment: Environment) -> None:
    tool, name = environment.tool, f"{environment.name}-other"
    tag = f"{repository}:1"
    push(environment, tag)
    other = _pull(environment, tag, name)
    other.sh("echo theirs > /opt/theirs")
    theirs = push(other, tag)
    environment.sh("echo mine > /opt/mine")
    refused(tool.run("push", environment.name, tag), 1, tag, "--force")
    mine = push(environment, tag, "--force")
    assert mine["digest"] != theirs["digest"]
    tool.end(name)
    again = _pull(environment, f"{repository}@{theirs['digest']}", name)  # by its digest it is there
    assert again.sh("cat /opt/theirs") == "theirs\n"
    tool.end(name)


def test_what_cannot_be_pushed_or_pulled(registry: Registry, environment: Environment) -> None:
    tool = environment.tool
    tag = f"{registry.repository(environment.name)}:1"
    with registry.known_to(tool.account, password="wrong"):
        for call in (("push", environment.name, tag), ("pull", tag, "nothing")):
            refused(tool.run(*call), 1, "unauthorized", f"skopeo login {registry.address}")
    refused(tool.run("pull", tag, "nothing"), 1, "certificate")
    with registry.known_to(tool.account):
        refused(tool.run("pull", tag, "nothing"), 1, "manifest unknown")
        refused(tool.run("pull", "127.0.0.1:1/test/x", "nothing"), 1, "connection refused")
        refused(tool.run("pull", tag, environment.name), 1, "already exists", f"sysenv-ns pull {tag} NAME")
    assert not (tool.store / "envs/nothing").exists()


def test_a_blob_that_was_tampered_with(registry: Registry, repository: str, environment: Environment) -> None:
    tool, tag, name = environment.tool, f"{repository}:1", f"{environment.name}-pulled"
    environment.sh(_LARGE)
    push(environment, tag)
    largest = max(manifest(registry, tool, tag)["layers"], key=lambda layer: layer["size"])
    data = registry.blob(largest["digest"]).read_bytes()
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 1
    registry.blob(largest["digest"]).write_bytes(changed)
    refused(tool.run("pull", tag, name), 1, tag, "Digest did not match")
    assert not (tool.store / "envs" / name).exists()
    registry.blob(largest["digest"]).write_bytes(data)
    _pull(environment, tag, name)
    tool.end(name)
    # Here: a damaged one is found, and fetched again by the next pull.
    cached = tool.store / "blobs/sha256" / largest["digest"].removeprefix("sha256:")
    cached.write_bytes(changed)
    refused(tool.run("pull", tag, name), 1, "does not match its digest")
    _pull(environment, tag, name)
    tool.end(name)


def test_an_interrupted_pull_goes_on(registry: Registry, repository: str, environment: Environment) -> None:
    tool, tag, name = environment.tool, f"{repository}:1", f"{environment.name}-pulled"
    for number in range(3):
        environment.sh(f"head -c 20000000 /dev/urandom > /opt/{number}")
        pushed = push(environment, tag)
    blobs = tool.store / "blobs/sha256"
    process = tool.start("pull", tag, name)
    wait_for(lambda: len(_large(blobs)) > 0)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    assert not (tool.store / "envs" / name).exists()
    before = _large(blobs)
    pulled = _pull(environment, tag, name)
    assert before.items() <= _large(blobs).items()  # fetched once
    assert _frozen(pulled) == _frozen(environment)
    assert pushed["size"] > 60_000_000
    tool.end(name)


def test_one_of_many_tasks_pulls(registry: Registry, repository: str, environment: Environment) -> None:
    """On a node of a cluster all begin at once: each finds the environment afterwards, whatever the tag is by now."""
    tool, name = environment.tool, f"{environment.name}-node"
    environment.sh(_LARGE)
    pushed = push(environment, f"{repository}:1")
    call = ("pull", "--if-missing", f"{repository}@{pushed['digest']}", name)
    results = [succeeded(finish(process)) for process in [tool.start(*call) for _ in range(4)]]
    assert sorted("pulled" in result.stderr for result in results) == [False, False, False, True]
    assert tool.environment(name).sh("stat -c %s /opt/large") == "6000000\n"
    environment.sh("echo new > /opt/new")
    moved = push(environment, f"{repository}:1")
    assert succeeded(tool.run("pull", "--if-missing", f"{repository}:1", name)).stderr == ""
    hint = f"sysenv-ns remove {name}"
    refused(tool.run(*call[:2], f"{repository}@{moved['digest']}", name), 1, "was not made from", hint)
    refused(tool.run(*call[:2], "127.0.0.1:1/test/x", name), 1, "was not made from 127.0.0.1:1/test/x:latest", hint)
    result = tool.run("pull", "--if-missing", f"{repository}:1")
    assert (result.returncode, "--if-missing needs NAME" in result.stderr) == (2, True)
    tool.end(name)


@pytest.mark.matrix
def test_an_interrupted_push_goes_on(registry: Registry, repository: str, environment: Environment) -> None:
    tool, tag = environment.tool, f"{repository}:1"
    environment.sh("head -c 60000000 /dev/urandom > /opt/large")
    uploads = registry.files(environment.name) / "_uploads"
    process = tool.start("push", environment.name, tag)
    wait_for(lambda: uploads.is_dir() or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    sizes = [path.stat().st_size for path in (tool.store / "blobs/sha256").iterdir()]
    assert max(sizes) > 60_000_000
    refused(tool.run("pull", tag, "nothing"), 1, "unknown")  # a tag is written last
    push(environment, tag)
    name = f"{environment.name}-pulled"
    assert _frozen(_pull(environment, tag, name)) == _frozen(environment)
    tool.end(name)


def test_a_registry_that_is_full(registry: Registry, repository: str, environment: Environment) -> None:
    """It says that it has failed, or just ends the connection; what it has got before need not be sent again."""
    if not ROOT_RUN:
        pytest.skip("only root can mount")
    tool, tag = environment.tool, f"{repository}:1"
    push(environment, tag)
    environment.sh(_LARGE)
    uploads = registry.files(environment.name) / "_uploads"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", uploads], check=True)
    try:
        refused(tool.run("push", environment.name, tag), 1, f"{tag} cannot be pushed", "its disk may be full")
    finally:
        subprocess.run(["umount", "--lazy", uploads], check=True)  # the registry may have files open
    assert _pull(environment, tag, f"{environment.name}-before").exec("ls", "/opt/large").returncode != 0
    tool.end(f"{environment.name}-before")
    assert push(environment, tag)["sent"] > 6_000_000
    assert _pull(environment, tag, f"{environment.name}-after").sh("stat -c %s /opt/large") == "6000000\n"
    tool.end(f"{environment.name}-after")


def test_what_a_registry_has_lost_is_sent_again(registry: Registry, repository: str, environment: Environment) -> None:
    tool, tag, name = environment.tool, f"{repository}:1", f"{environment.name}-pulled"
    environment.sh(_LARGE)
    push(environment, tag)
    largest = max(manifest(registry, tool, tag)["layers"], key=lambda layer: layer["size"])
    registry.lose(environment.name, largest["digest"])
    environment.sh("echo new > /opt/new")
    assert push(environment, tag)["sent"] > largest["size"]
    assert _pull(environment, tag, name).sh("cat /opt/new; stat -c %s /opt/large") == "new\n6000000\n"
    tool.end(name)


def test_a_policy_decides_what_is_accepted(registry: Registry, repository: str, environment: Environment) -> None:
    """skopeo's: signatures by GnuPG, in a directory that stands for a web server. Of what is pushed it says nothing."""
    tool, name = environment.tool, f"{environment.name}-pulled"
    settings = tool.account.home / ".config/containers"
    (settings / "registries.d").mkdir()
    lookaside = f"file://{tool.account.home}/signatures"
    rules = {"docker": {registry.address: {"sigstore": lookaside, "sigstore-staging": lookaside}}}
    (settings / "registries.d/test.yaml").write_text(json.dumps(rules))
    with _signing(tool) as key:
        asked = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": str(key)}
        policy = {"default": [{"type": "reject"}], "transports": {"docker": {registry.address: [asked]}}}
        (settings / "policy.json").write_text(json.dumps(policy))
        pushed = push(environment, f"{repository}:1")
        refused(tool.run("pull", f"{repository}:1", name), 1, "signature was required", "containers-policy.json(5)")
        place = f"docker://{repository}:1"
        registry.skopeo(tool, "--insecure-policy", "copy", "-q", "--sign-by", _SIGNER, place, place)
        for reference in (f"{repository}:1", f"{repository}@{pushed['digest']}"):
            _pull(environment, reference, name)
            tool.end(name)
        (settings / "policy.json").write_text(json.dumps({"default": [{"type": "reject"}]}))
        refused(tool.run("pull", f"{repository}:1", name), 1, "rejected by policy", "containers-policy.json(5)")
    subprocess.run(["rm", "-rf", tool.account.home / "signatures"], check=True)


@contextlib.contextmanager
def _signing(tool: Tool) -> Iterator[Path]:
    """A user who can sign, by name; the public key's file."""
    place = tool.account.home / ".gnupg"
    place.mkdir(mode=0o700)
    os.chown(place, tool.account.uid, tool.account.gid)
    key = tool.account.home / "key.gpg"

    def gpg(*arguments: str) -> bytes:
        command = ["gpg", "--batch", "--quiet", "--passphrase", "", *arguments]
        result = subprocess.run(command, check=True, capture_output=True, env=tool.variables(), **tool.account.become())
        return bytes(result.stdout)

    try:
        gpg("--quick-generate-key", _SIGNER, "default", "sign")
        key.write_bytes(gpg("--export", _SIGNER))
        yield key
    finally:
        kill = ["gpgconf", "--kill", "all"]
        subprocess.run(kill, check=True, env=tool.variables(), **tool.account.become())
        subprocess.run(["rm", "-rf", place, key], check=True)


def _large(blobs: Path) -> dict[str, int]:
    """The blobs of these layers that are there, and what file each is."""
    found = {path.name: path.stat() for path in blobs.iterdir()}
    return {name: status.st_ino for name, status in found.items() if status.st_size > 10_000_000}


def _forge(registry: Registry, tool: Tool, model: str, reference: str, members: Sequence[tuple[Member, bytes]]) -> None:
    """Push what has the description of a model, and these members in its layer 0."""
    layout = tool.account.home / "forged"
    subprocess.run(["rm", "-rf", layout], check=True)
    registry.skopeo(tool, "copy", "-q", f"docker://{model}", f"oci:{layout}:x")
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs/sha256"
    described = json.loads((blobs / index["manifests"][0]["digest"].removeprefix("sha256:")).read_text())
    content = b"".join(tarball.encode(m) + data + tarball.padding(len(data)) for m, data in members) + tarball.END
    archives.compress(layout / "layer", content)
    (changed,) = (layer for layer in described["layers"] if layer["annotations"]["sysenv-ns.tree"] == "layers/0")
    changed |= archives.blob(blobs, (layout / "layer").read_bytes())
    index["manifests"][0] |= archives.blob(blobs, json.dumps(described).encode())
    (layout / "index.json").write_text(json.dumps(index))
    registry.skopeo(tool, "copy", "-q", "--preserve-digests", f"oci:{layout}:x", f"docker://{reference}")
    subprocess.run(["rm", "-rf", layout], check=True)


_TOP = Member(b"tree", "directory", 0o755), b""


@pytest.mark.parametrize(
    ("members", "word"),
    [
        ([_TOP, (Member(b"tree/../../x", "file", size=3), b"abc")], "is outside the archive's directories"),
        pytest.param([_TOP, (Member(b"layers/1/x", "file"), b"")], "belongs to no layer", marks=pytest.mark.matrix),
        pytest.param([_TOP, (Member(b"/etc/x", "file"), b"")], "belongs to no layer", marks=pytest.mark.matrix),
        pytest.param(
            [_TOP, (Member(b"tree/l", "link", target=b"tree/../x"), b"")],
            "not an earlier file",
            marks=pytest.mark.matrix,
        ),
        pytest.param(
            [_TOP, (Member(b"tree/l", "symlink", target=b"/"), b""), (Member(b"tree/l/x", "file"), b"")],
            "is missing",
            marks=pytest.mark.matrix,
        ),
        pytest.param([], "layers/0 is missing", marks=pytest.mark.matrix),
    ],
)
def test_what_no_push_has_sent(
    registry: Registry,
    repository: str,
    environment: Environment,
    members: Sequence[tuple[Member, bytes]],
    word: str,
) -> None:
    tool = environment.tool
    push(environment, f"{repository}:good")
    _forge(registry, tool, f"{repository}:good", f"{repository}:bad", members)
    refused(tool.run("pull", f"{repository}:bad", "forged"), 1, f"{repository}:bad", word)
    assert not (tool.store / "envs/forged").exists()
    assert os.listdir(tool.store / "trash") == []


@pytest.mark.modes("full", more=("single",))
def test_a_manifest_above_what_was_pushed(
    registry: Registry, repository: str, environment: Environment, packages: Path
) -> None:
    """`from` in a sysenv.toml: sync begins with what was pushed, and leaves that alone."""
    tool, name = environment.tool, f"{environment.name}-above"
    environment.sh("echo base > /opt/base; apt-mark hold bash; echo '# base' > /etc/apt/sources.list.d/base.list")
    pushed = push(environment, f"{repository}:1")
    file = packages / "sysenv.toml"
    base = f"{repository}@{pushed['digest']}"

    def say(base: str, text: str = "") -> None:
        file.write_text(f'from = "{base}"\n[files]\n"/opt/above" = "{text}"\n')

    say(base, "above")
    call = ("sync", name, str(file))
    check = tool.run(*call, "--check")
    assert (check.returncode, base in check.stdout) == (1, True)
    refused(tool.run(*call), 1, "--yes")
    assert not (tool.store / "envs" / name).exists()
    result = json.loads(succeeded(tool.run(*call, "--yes", "--json", *tool.options)).stdout)
    try:
        assert [(row["kind"], row["subject"]) for row in result["actions"]] == [("pull", base), ("file", "/opt/above")]
        above = tool.environment(name)
        found = above.sh("cat /opt/base /opt/above /etc/apt/sources.list.d/base.list; apt-mark showhold")
        assert found == "base\nabove# base\nbash\n"
        succeeded(tool.run(*call, "--check"))
        say(base, "changed")
        succeeded(tool.run(*call, "--yes"))
        assert above.sh("cat /opt/base /opt/above") == "base\nchanged"
        say(f"{repository}:2")
        refused(tool.run(*call, "--yes"), 1, f"not made from {repository}:2", f"remove {name}")
        assert above.sh("cat /opt/above") == "changed"
    finally:
        tool.end(name)
    refused(tool.run(*call, "--yes"), 1, "manifest unknown")
    assert not (tool.store / "envs" / name).exists()

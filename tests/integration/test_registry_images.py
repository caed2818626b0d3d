"""push --image with a real registry: what is sent and stored, and what others make of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from . import archives, registries
from .debs import program
from .machines import Machine
from .podman import LIMITED, podman
from .registries import Registry, manifest, push
from .support import Environment, Tool, finish, refused, succeeded, wait_for

pytestmark = pytest.mark.together


@pytest.mark.modes("full", more=("single",))
def test_images_of_a_host_share_its_layers(registry: Registry, machine: Machine) -> None:
    """The second one sends and stores its changes alone; what the registry has lost is sent again."""
    tool, repository = machine.tool, registry.repository(f"images-{machine.tool.mode}")
    registries.put_skopeo(machine)
    one, other = machine.create(), tool.environment("other")
    succeeded(tool.run("create", "other", *tool.options))
    one.sh("echo one > /opt/one")
    other.sh("rm -r /usr/share/common-licenses; echo >> /usr/bin/ldd; chmod 700 /usr/share/doc")
    with registry.known_to(tool.account):
        sizes = [registry.size()]
        first = push(one, f"{repository}:one", "--image")
        sizes.append(registry.size())
        second = push(other, f"{repository}:other", "--image")
        sizes.append(registry.size())
        assert first["sent"] == first["size"]
        assert (second["blobs"], second["sent"] <= first["sent"] * 0.05) == (1, True)
        assert sizes[2] - sizes[1] <= (sizes[1] - sizes[0]) * 0.05
        manifests = [manifest(registry, tool, f"{repository}:{tag}") for tag in ("one", "other")]
        assert manifests[0]["layers"][:-1] == manifests[1]["layers"][:-1]
        assert push(one, f"{repository}:one", "--image")["blobs"] == 0
        one.sh("chmod 600 /opt/one; chmod 644 /opt/one")  # made anew, the layer is the same
        again = push(one, f"{repository}:one", "--image")
        assert (again["digest"], again["blobs"], again["sent"]) == (first["digest"], 0, 0)
        refused(tool.run("push", "--image", "other", f"{repository}:one"), 1, f"{repository}:one", "--force")
        refused(tool.run("push", "test", f"{repository}:one"), 1, "is an image", "--force")
        registry.lose(f"images-{tool.mode}", manifests[0]["layers"][0]["digest"])
        again = push(one, f"{repository}:again", "--image")  # all of it is made again, and the same
        assert (again["digest"], again["sent"]) == (first["digest"], first["size"])
        assert registry.blob(manifests[0]["layers"][0]["digest"]).exists()
    assert not [path for path in (tool.store / "blobs/sha256").iterdir() if path.stat().st_size > 1_000_000]
    tool.end("other")


# Makes a newer version of an installed package, of its own files with new times, and installs it.
_UPGRADE = """
cd "$(mktemp -d)"
for path in $(dpkg -L "$1"); do [ -d "$path" ] || cp -a --parents "$path" .; done
find . -exec touch -h {} +
mkdir DEBIAN
dpkg-query -s "$1" | sed -e '/^Status:/d' -e '/^Conffiles:/,/^[^ ]/{/^Conffiles:/d;/^ /d}' \
    -e 's/^Version: .*/&+upgrade1/' > DEBIAN/control
for path in /var/lib/dpkg/info/"$1".*; do
    case $path in *.list | *.md5sums) ;; *) cp -a "$path" "DEBIAN/${path##*.}" ;; esac
done
dpkg-deb --build --root-owner-group . ../upgrade.deb
dpkg --install ../upgrade.deb
rm ../upgrade.deb
"""


@pytest.mark.modes("full", more=("single", "root"))
def test_an_upgrade_of_the_host_costs_the_layers_of_its_packages(registry: Registry, machine: Machine) -> None:
    """dpkg's own, with its triggers: what no package has that it changed is small, or in the layer of the state."""
    repository, environment = registry.repository(f"upgraded-{machine.tool.mode}"), machine.create()
    registries.put_skopeo(machine)
    with registry.known_to(machine.tool.account):
        first = push(environment, f"{repository}:1", "--image")
        before, size = _titled(registry, machine.tool, f"{repository}:1"), registry.size()
        machine.sh(_UPGRADE, "sudo")
        push(environment, f"{repository}:2", "--image")
        stored = registry.size() - size
        after = _titled(registry, machine.tool, f"{repository}:2")
    assert after.keys() == before.keys()
    new = {title: layer for title, layer in after.items() if layer != before[title]}
    # That of the package, which others may share, and what any upgrade changes.
    assert len(new.keys() - {"directories", "state of the host", environment.name}) == 1, [*new]
    changed = sum(layer["size"] for layer in new.values())
    assert changed <= 0.5 * first["size"]
    assert stored <= changed + 20_000  # its manifest and its configuration


def _titled(registry: Registry, tool: Tool, reference: str) -> dict[str, Any]:
    """The layers of an image by what is in them."""
    config = json.loads(registry.skopeo(tool, "inspect", "--config", f"docker://{reference}"))
    titles = [row["comment"] for row in config["history"]]
    return dict(zip(titles, manifest(registry, tool, reference)["layers"], strict=True))


def test_an_image_is_no_environment(registry: Registry, repository: str, environment: Environment) -> None:
    tool = environment.tool
    layout = tool.account.home / "image"
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    kind = "application/vnd.oci.image"
    config = archives.blob(blobs, json.dumps({"architecture": "amd64", "os": "linux"}).encode())
    image = {"schemaVersion": 2, "config": config | {"mediaType": f"{kind}.config.v1+json"}, "layers": []}
    described = archives.blob(blobs, json.dumps(image).encode()) | {"mediaType": f"{kind}.manifest.v1+json"}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    registry.skopeo(tool, "copy", "-q", f"oci:{layout}", f"docker://{repository}:image")
    refused(tool.run("pull", f"{repository}:image", "nothing"), 1, "is not an environment", "an image")
    subprocess.run(["rm", "-rf", layout], check=True)


def test_an_interrupted_push_of_an_image_goes_on(registry: Registry, machine: Machine) -> None:
    """Its layers are made once, each of them is known as soon as it is complete."""
    tool, repository = machine.tool, registry.repository(f"interrupted-{machine.tool.mode}")
    tag = f"{repository}:1"
    registries.put_skopeo(machine)
    environment = machine.create()
    environment.sh("head -c 20000000 /dev/urandom > /opt/own")  # in the last layer
    known = tool.store / "blobs/layers.json"
    with registry.known_to(tool.account):
        process = tool.start("push", "--image", environment.name, tag)
        wait_for(lambda: known.exists() and len(json.loads(known.read_text())) > 3)
        os.killpg(process.pid, signal.SIGKILL)
        finish(process)
        made = {row["layer"]["blob"]["digest"] for row in json.loads(known.read_text()).values()}
        before = {digest: _inode(tool, digest) for digest in made}
        process = tool.start("push", "--image", environment.name, tag)
        wait_for(lambda: len(json.loads(known.read_text())) > len(made) + 3)
        assert {digest: _inode(tool, digest) for digest in made} == before
        succeeded(finish(process))
        assert made <= {layer["digest"] for layer in manifest(registry, tool, tag)["layers"]}


def _inode(tool: Tool, digest: str) -> int:
    return (tool.store / "blobs/sha256" / digest.removeprefix("sha256:")).stat().st_ino


_BUILD = """
FROM {image}
RUN check > /srv/said && id -u >> /srv/said && rm /opt/own
"""


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.modes("full")
def test_podman_builds_on_it_and_runs_it(registry: Registry, machine: Machine, packages: Path, shared: Path) -> None:
    """A user's, from the registry; what is built on it is pushed there too, and shares its layers."""
    if missing := [name for name in ("podman", "crun", "slirp4netns") if shutil.which(name) is None]:
        pytest.skip(f"not installed: {missing}")
    tool, image = machine.tool, f"{registry.repository('base')}:1"
    registries.put_skopeo(machine)
    environment = machine.create()
    environment.sh('dpkg --install "$1"; echo own > /opt/own', str(program("check").build(packages)))
    with registry.known_to(tool.account), podman(tool.account, shared) as run:
        push(environment, image, "--image")
        assert run("run", *LIMITED, image, "sh", "-c", "check; id -u; cat /opt/own") == "check 1\n0\nown\n"
        (shared / "Containerfile").write_text(_BUILD.format(image=image))
        built = f"{registry.repository('built')}:1"
        run("build", "--quiet", "--isolation", "chroot", "--tag", built, str(shared))
        assert run("run", *LIMITED, built, "sh", "-c", "cat /srv/said; ls /opt/own 2>&1 || :").startswith(
            "check 1\n0\nls: "
        )
        size = registry.size()
        run("push", "--quiet", built)
        assert registry.size() - size < 1_000_000

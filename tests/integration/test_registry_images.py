"""push --image with a real registry: what is sent and stored, and what others make of it."""

from __future__ import annotations

import json
import subprocess

import pytest

from . import archives, registries
from .machines import Machine
from .registries import Registry, manifest, push
from .support import Environment, refused, succeeded

pytestmark = pytest.mark.together


@pytest.mark.modes("full", more=("single",))
def test_images_of_a_host_share_its_layers(registry: Registry, machine: Machine) -> None:
    """The second one sends and stores its changes alone; what the registry has lost is sent again."""
    tool, repository = machine.tool, registry.repository("images")
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
        refused(tool.run("push", "--image", "other", f"{repository}:one"), 1, f"{repository}:one", "--force")
        refused(tool.run("push", "test", f"{repository}:one"), 1, "is an image", "--force")
        registry.lose("images", manifests[0]["layers"][0]["digest"])
        again = push(one, f"{repository}:again", "--image")  # all of it is made again, and the same
        assert (again["digest"], again["sent"]) == (first["digest"], first["size"])
        assert registry.blob(manifests[0]["layers"][0]["digest"]).exists()
    assert not [path for path in (tool.store / "blobs/sha256").iterdir() if path.stat().st_size > 1_000_000]
    tool.end("other")


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

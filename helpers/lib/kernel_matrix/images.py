"""Makes what a boot needs: a small Debian as a file system image of each kind, and an initramfs for each kernel."""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import shutil
import stat
import subprocess
import tarfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from .archive import Kernel, run

CHECKOUT = Path(__file__).resolve().parents[3]
FILE_SYSTEMS = ("ext4", "xfs", "btrfs")
_SUITE = "trixie"
_SIZE = "12G"  # of an image; sparse
# What the tool and the tests need, and nothing else: small bases are built faster.
_PACKAGES = (
    *("python3-venv", "libseccomp2", "ca-certificates", "uidmap", "sudo", "procps", "tmux", "dbus-daemon", "dbus-bin"),
    *("acl", "attr", "iproute2", "fuse-overlayfs", "fuse3", "e2fsprogs", "xfsprogs", "btrfs-progs", "kmod", "apparmor"),
    *("gcc", "libc6-dev"),  # what is measured
)
_ARCHIVE = "srv/archive"  # with a package that can be installed in the guest, which has no network
_ARCHIVED = "hello"
_SUPERFLUOUS = (
    *("usr/share/locale", "usr/share/man", "var/lib/apt/lists", "opt/wheels"),
    *(
        "srv/checkout/sysenv_ns",
        "srv/checkout/tests",
        "srv/checkout/helpers",
    ),  # every boot brings them as they are then
)
_SET_UP = ("helpers/sysenv-ns", "helpers/lib/venv.sh", "helpers/lib/dependencies.py")
_NOT_IN_GUEST = ("mypy", "ruff")
_MODULES = (
    *("virtio_pci", "virtio_blk", "ext4", "xfs", "btrfs", "overlay", "fuse", "loop", "autofs4", "squashfs", "vfat"),
    *("nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"),
)
# What the kernel asks for by another name than a module's; newer ones have them built in.
_MODULES_BY_ALIAS = ("crc32c_generic", "xxhash_generic", "blake2b_generic", "sha256_generic")
_INIT = """\
#!/bin/busybox sh
# Loads modules, mounts the root file system and goes on in it.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
for module in $(cat /modules/order); do insmod "/modules/$module" || echo "matrix: $module cannot be loaded"; done
fstype=$(sed -n 's/.*matrix_root=\\([a-z0-9]*\\).*/\\1/p' /proc/cmdline)
mount -t "$fstype" -o rw /dev/vda /root || poweroff -f
tar -x -C /root/srv -f /payload.tar
umount /proc
exec switch_root /root /usr/bin/python3 -u /srv/guest.py
"""


def requirements() -> list[str]:
    """What pip has to install for the tests, as pyproject.toml says."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [line for line in wanted if not line.startswith(_NOT_IN_GUEST)]


class Images:
    """The images, kept in the cache until what they are made from changes."""

    def __init__(self, cache: Path, mirror: str) -> None:
        set_up = [(CHECKOUT / name).read_text() for name in ("pyproject.toml", *_SET_UP)]
        text = repr((_SUITE, _PACKAGES, _ARCHIVED, _SUPERFLUOUS, _SIZE, set_up))
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        self._directory = cache / f"root-{key}"
        self._mirror = mirror

    def path(self, file_system: str) -> Path:
        """Where the image of a file system is, or will be."""
        return self._directory / f"{file_system}.img"

    def make_first(self) -> Path:
        """The image with ext4, which mke2fs can fill; a boot of it fills the others."""
        image = self.path("ext4")
        if not image.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            tree = self._directory / "tree"
            shutil.rmtree(tree, ignore_errors=True)
            self._bootstrap(tree)
            unfinished = blank(image.with_suffix(".new"))
            run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(tree), str(unfinished)])
            shutil.rmtree(tree)
            unfinished.rename(image)
        return image

    def _bootstrap(self, tree: Path) -> None:
        run(["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", _SUITE, str(tree), self._mirror])
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")  # the machine's own network may need its own
        if certificates.exists():
            shutil.copyfile(certificates, tree / "etc/ssl/certs/ca-certificates.crt")
        shutil.copyfile("/etc/resolv.conf", tree / "etc/resolv.conf")
        (tree / "etc/hosts").write_text("127.0.0.1 localhost kernel-matrix\n")
        (tree / "etc/hostname").write_text("kernel-matrix\n")
        pip = "/opt/tests/bin/pip"
        run(["chroot", str(tree), "python3", "-m", "venv", "/opt/tests"])
        run(["chroot", str(tree), pip, "-q", "install", "wheel"])
        run(["chroot", str(tree), pip, "-q", "wheel", "-w", "/opt/wheels", *requirements()])
        (tree / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /opt/wheels\n")
        run(["chroot", str(tree), pip, "-q", "install", *requirements()])
        with tarfile.open(fileobj=io.BytesIO(payload(b""))) as archive:
            archive.extractall(tree / "srv")
        run(["chroot", str(tree), "/srv/checkout/helpers/sysenv-ns", "--version"])  # sets itself up
        make_archive(tree)
        run(["chroot", str(tree), "apt-get", "clean"])
        for name in _SUPERFLUOUS:
            shutil.rmtree(tree / name)


def make_archive(tree: Path) -> None:
    """Put an archive of one package into a system, which knows no other from then on."""
    place = tree / _ARCHIVE
    place.mkdir()
    run(
        [
            "chroot",
            str(tree),
            "sh",
            "-c",
            f"cd /{_ARCHIVE} && apt-get -q -o APT::Sandbox::User=root download {_ARCHIVED}",
        ]
    )
    deb = next(place.glob("*.deb"))
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    fields = run(["dpkg-deb", "--field", str(deb)])
    fields += f"Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
    (place / "Packages").write_text(fields)
    (tree / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:/{_ARCHIVE} ./\n")


def blank(path: Path) -> Path:
    """An empty image."""
    path.unlink(missing_ok=True)
    run(["truncate", "--size", _SIZE, str(path)])
    return path


def initramfs(kernel: Kernel, payload: bytes) -> bytes:
    """The archive that the kernel starts from: busybox, the modules in the order to load them, and the payload."""
    loaded = modules(kernel)
    files = [
        ("init", 0o755, _INIT.encode()),
        ("bin/busybox", 0o755, _busybox().read_bytes()),
        ("payload.tar", 0o644, payload),
        ("modules/order", 0o644, "".join(f"{name}\n" for name in loaded).encode()),
        *((f"modules/{name}", 0o644, content) for name, content in loaded.items()),
    ]
    directories = [(name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "dev", "proc", "root", "modules")]
    members = [*directories, *((name, stat.S_IFREG | mode, content) for name, mode, content in files)]
    return newc(members)


def _busybox() -> Path:
    found = shutil.which("busybox")
    assert found is not None, "checked at the start"
    return Path(found)


def newc(members: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive as Documentation/driver-api/early-userspace/buffer-format.rst describes it."""
    return b"".join(_newc(members))


def _newc(members: Iterable[tuple[str, int, bytes]]) -> Iterator[bytes]:
    for number, (name, mode, content) in enumerate([*members, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        yield header + bytes(-len(header) % 4)
        yield content + bytes(-len(content) % 4)


def modules(kernel: Kernel) -> dict[str, bytes]:
    """The modules by file name, each after those that it depends on."""
    paths = {_module_name(path): path for path in kernel.modules.rglob("*.ko*")}
    built_in = {_module_name(Path(line)) for line in (kernel.modules / "modules.builtin").read_text().splitlines()}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if f"{name}.ko" in found or name in built_in:
            return
        content = _decompressed(paths[name])
        match = re.search(rb"\0depends=([^\0]*)\0", content)
        for dependency in match[1].decode().split(",") if match and match[1] else ():
            add(dependency.replace("-", "_"))
        found[f"{name}.ko"] = content

    for name in (*_MODULES_BY_ALIAS, *_MODULES):
        if name in paths:
            add(name)
    return found


def _module_name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def _decompressed(path: Path) -> bytes:
    if path.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=True).stdout
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def payload(plan: bytes) -> bytes:
    """A tar archive of the checkout, the script that runs in the guest and what it is to do."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("sysenv_ns", "helpers", "tests", "pyproject.toml"):
            archive.add(CHECKOUT / name, f"checkout/{name}", filter=_without_owner)
        archive.add(Path(__file__).with_name("guest.py"), "guest.py", filter=_without_owner)
        member = tarfile.TarInfo("plan.json")
        member.size = len(plan)
        archive.addfile(member, io.BytesIO(plan))
    return stream.getvalue()


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if "__pycache__" in member.name:
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode |= stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH | (0o111 if member.isdir() else 0)
    return member

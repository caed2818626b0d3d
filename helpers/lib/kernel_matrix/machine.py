"""Boots a kernel with an image in qemu and brings back what the guest has written; knows nothing of its meaning."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import images
from .archive import Kernel

_MEMORY = "2G"
_BARE = ("-nodefaults", "-display", "none", "-no-reboot")
_TRIAL = 30  # seconds
_RESULTS_SIZE = 256 << 20  # bytes, sparse


@dataclass(frozen=True)
class Boot:
    """One start of a virtual machine. The root image stays as it is, `target` does not."""

    kernel: Kernel
    root: Path
    file_system: str
    plan: Mapping[str, Any]
    accelerator: tuple[str, ...]
    target: Path | None = None

    @staticmethod
    def kept(directory: Path) -> dict[str, Any]:
        """What the guest of an earlier boot has reported there; nothing where there was none."""
        report = directory / "results.json"
        content = json.loads(report.read_text()) if report.exists() else {}
        assert isinstance(content, dict)
        return content

    def run(self, directory: Path, limit: float) -> dict[str, Any]:
        """What the guest reports; {"error": ...} when it does not come to that. The logs are left in `directory`.

        A report that is there already is taken: a long series of boots can be interrupted and goes on later.
        """
        if not self.kept(directory):
            error = self._boot(directory, limit)
            if error or not self.kept(directory):
                return {"error": error or "the guest ended without a report"}
        return self.kept(directory)

    def _boot(self, directory: Path, limit: float) -> str:
        directory.mkdir(parents=True, exist_ok=True)
        initrd, results = directory / "initrd", directory / "results"
        initrd.write_bytes(images.initramfs(self.kernel, images.payload(json.dumps(self.plan).encode())))
        with results.open("wb") as stream:
            stream.truncate(_RESULTS_SIZE)
        try:
            error = self._qemu(directory, initrd, results, limit)
            _extract(results, directory)
            return error
        finally:
            initrd.unlink()
            results.unlink()

    def _qemu(self, directory: Path, initrd: Path, results: Path, limit: float) -> str:
        """Run it to its end; gives what went wrong, or nothing."""
        drives = [(self.root, "on"), (results, "off"), *([(self.target, "off")] if self.target else [])]
        command = [
            *("qemu-system-x86_64", *self.accelerator, *_BARE, "-m", _MEMORY),
            *("-serial", f"file:{directory / 'console.log'}"),
            *("-kernel", str(self.kernel.image), "-initrd", str(initrd)),
            *("-append", f"console=ttyS0 panic=-1 matrix_root={self.file_system}"),
        ]
        for path, snapshot in drives:
            command += ["-drive", f"file={path},format=raw,if=virtio,cache=unsafe,snapshot={snapshot}"]
        with (directory / "qemu.log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                return f"the guest took over {limit:.0f} s"
            finally:
                process.kill()
                process.wait()
        return f"qemu ended with status {code}: {(directory / 'qemu.log').read_text()}" if code else ""


def accelerator(kernel: Kernel) -> tuple[str, ...]:
    """What qemu is to use: the processor itself if a kernel comes up on it, else software emulation.

    That is tried: inside another virtual machine /dev/kvm can be there and not do for every kernel.
    """
    # The register that arch-capabilities stands for cannot be set in a virtual machine inside another one.
    candidate = ("-accel", "kvm", "-cpu", "host,-arch-capabilities", "-smp", "2")
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        command = ["qemu-system-x86_64", *candidate, *_BARE, "-m", "512M", "-serial", "stdio", "-kernel"]
        command += [str(kernel.image), "-append", "console=ttyS0 panic=-1"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TRIAL, check=False)
            if b"Unable to mount root fs" in done.stdout:
                return candidate
    # cmpxchg16b spoils the flags now and then (qemu 7.2), and half of the boots of Linux 6.12 end in a panic.
    return ("-accel", "tcg,thread=multi", "-cpu", "max,cx16=off", "-smp", "2")


def _extract(results: Path, directory: Path) -> None:
    """The files of the guest's archive, by their bare names."""
    with contextlib.suppress(tarfile.ReadError), tarfile.open(results) as archive:  # nothing written: no archive
        for member in archive:
            if stream := archive.extractfile(member):
                (directory / Path(member.name).name).write_bytes(stream.read())

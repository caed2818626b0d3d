"""What is read of the accounts of an environment, whatever its root has written there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysenv_ns.inside import accounts


def test_only_entries_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "root:x:0:0:root:/root:/bin/bash",
        "short:x:1:1:::",
        "none",
        f"long:x:{'9' * 5000}:1:::/bin/long",
        "big:x:4294967296:1:::/bin/big",
        "superscript:x:\u00b2:1:::/bin/x",
        "nul:x:1000:1000:::/bin/\0sh",
        "you:x:1000:1000:::/usr/bin/fish",
    )
    path = tmp_path / "passwd"
    path.write_text("".join(f"{line}\n" for line in lines))
    monkeypatch.setattr(accounts, "_PASSWD", str(path))
    assert accounts.shells() == {(0, "/bin/bash"), (1, ""), (1000, "/usr/bin/fish")}
    assert accounts.users() == {"root": 0, "short": 1, "you": 1000}

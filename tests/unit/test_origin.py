"""The host's state that an environment begins with: recorded while the host goes on changing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.packages import origin
from sysenv_ns.paths import Path as ToolPath


def test_a_file_that_is_deleted_while_it_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of it is kept, and for its owner alone: nobody knows any more who could read it."""
    account = tmp_path / "passwd"
    account.write_text("root:x:0:0::/root:/bin/sh\n")
    read = origin.content

    def read_and_delete(path: str) -> bytes | None:
        data = read(path)
        if path == str(account):
            account.unlink(missing_ok=True)
        return data

    monkeypatch.setattr(origin, "ACCOUNTS", (str(account),))
    monkeypatch.setattr(origin, "content", read_and_delete)
    origin._take(ToolPath(tmp_path / "state"))
    recorded = Path(f"{tmp_path}/state{account}")
    assert recorded.read_text() == "root:x:0:0::/root:/bin/sh\n"
    assert os.stat(recorded).st_mode & 0o777 == 0o600

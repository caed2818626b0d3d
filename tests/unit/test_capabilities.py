"""What a file's capabilities are called: as getcap(8) does."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.kernel import capabilities

_MASKS = st.integers(0, (1 << 41) - 1)


def _value(permitted: int, inheritable: int = 0, effective: bool = True, rootid: int | None = None) -> bytes:
    """The attribute as the kernel writes it, of revision 2, or 3 with an id."""
    words = [word >> shift & 0xFFFFFFFF for shift in (0, 32) for word in (permitted, inheritable)]
    magic = (0x02000000 if rootid is None else 0x03000000) | effective
    return struct.pack("<5I", magic, *words) + (b"" if rootid is None else struct.pack("<I", rootid))


def _text(value: bytes) -> str:
    return capabilities.text(capabilities.parse(value))


def test_each_has_its_name() -> None:
    assert len(capabilities.NAMES) == len({*capabilities.NAMES}) == 41
    for number, name in enumerate(capabilities.NAMES):
        assert _text(_value(1 << number)) == f"{name}=ep"
    known = {0: "cap_chown", 7: "cap_setuid", 12: "cap_net_admin", 21: "cap_sys_admin", 31: "cap_setfcap"}
    known |= {32: "cap_mac_override", 36: "cap_block_suspend", 39: "cap_bpf", 40: "cap_checkpoint_restore"}
    assert {number: capabilities.NAMES[number] for number in known} == known


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (_value(0x82), "cap_dac_override,cap_setuid=ep"),
        (_value(0x80, 0x80), "cap_setuid=eip"),
        (_value(0x80, 0x80, effective=False), "cap_setuid=ip"),
        (_value(0x80, effective=False), "cap_setuid=p"),
        (_value(0, 0x80, effective=False), "cap_setuid=i"),
        (_value(0, 0x80), "cap_setuid=ei"),
        (_value(0x82, 0xA0), "cap_setuid=eip cap_dac_override=ep cap_kill=ei"),
        (_value(0), "="),
        (_value((1 << 41) - 1), "all=ep"),
        (_value(1 << 41 | 1), "cap_chown,41=ep"),
        (_value((1 << 42) - 1), "all,41=ep"),
        (_value(0x80, rootid=1000), "cap_setuid=ep [rootid=1000]"),
        (_value(0x80, rootid=0), "cap_setuid=ep"),
        (struct.pack("<3I", 0x01000001, 0x80, 0), "cap_setuid=ep"),
    ],
)
def test_forms(value: bytes, text: str) -> None:
    assert _text(value) == text


@pytest.mark.parametrize(
    "value",
    [b"", b"\2", _value(1)[:-1], _value(1) + b"\0", _value(1, rootid=1)[:-4], b"\4" + _value(1)[1:], b"\0" * 20,
     b"\1\0\0\4" + _value(1)[4:], b"\2\0\0\2" + _value(1)[4:]],
)  # fmt: skip
def test_what_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="capabilities"):
        capabilities.parse(value)


@given(st.binary(max_size=32))
def test_anything_is_read_or_refused(value: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert _text(value)


@given(_MASKS, _MASKS, st.booleans(), st.none() | st.integers(0, 0xFFFFFFFF))
def test_nothing_of_it_is_lost(permitted: int, inheritable: int, effective: bool, rootid: int | None) -> None:
    found = capabilities.parse(_value(permitted, inheritable, effective, rootid))
    assert found == capabilities.FileCapabilities(permitted, inheritable, effective, rootid or 0)


def test_the_systems_own_program_says_the_same(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives capabilities")
    if shutil.which("setcap") is None:
        pytest.skip("there is no setcap")
    file = tmp_path / "file"
    file.write_text("x")
    for wanted in ("cap_setuid,cap_dac_override=ep", "cap_kill=eip", "cap_bpf=i", "cap_chown,cap_perfmon=p"):
        subprocess.run(["setcap", wanted, file], check=True)
        said = subprocess.run(["getcap", file], check=True, capture_output=True, text=True).stdout
        assert said == f"{file} {_text(os.getxattr(file, capabilities.ATTRIBUTE))}\n"

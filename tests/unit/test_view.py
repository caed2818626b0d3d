"""Upper directories as they lie above each other."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sysenv_ns import policy
from sysenv_ns.files import marks
from sysenv_ns.files.marks import OF_FUSE, OF_USERS
from sysenv_ns.files.upper import Upper

from .forks import in_a_child

_NAMES = st.sampled_from(["a", "b", "c"])
# A directory is a mapping; a text is a file; None is a whiteout; a mapping with the key "" is opaque.
_Layer = dict[str, "_Layer | str | None"]
_LAYERS: st.SearchStrategy[_Layer] = st.recursive(
    st.dictionaries(_NAMES, st.sampled_from(["x", "y"]) | st.none(), max_size=3),
    lambda inner: st.dictionaries(_NAMES, inner | st.just("x") | st.none() | inner.map(lambda d: {**d, "": "!"})),
    max_leaves=8,
)


def _write(layer: _Layer, path: Path) -> None:
    path.mkdir()
    for name, what in layer.items():
        if isinstance(what, dict):
            _write(what, path / name)
        elif name == "":
            (path / policy.FUSE_OPAQUE).touch()
        elif what is None:
            (path / f".wh.{name}").touch()
        else:
            (path / name).write_text(what)


def _over(upper: _Layer, lower: _Layer) -> _Layer:
    """What the layers are together, by the words of overlayfs' documentation."""
    result: _Layer = dict(upper) if "" in upper else {**lower, **upper}
    for name, what in upper.items():
        below = lower.get(name, {}) if "" not in upper else {}
        if isinstance(what, dict):
            hidden = name in lower and not isinstance(below, dict)
            result[name] = {**what, "": "!"} if hidden else _over(what, below if isinstance(below, dict) else {})
    return result


def _seen(layer: _Layer, path: str = "") -> dict[str, tuple[str, bool, str]]:
    found = {}
    for name, what in layer.items():
        place = f"{path}/{name}"
        if isinstance(what, dict):
            found[place] = ("directory", "" in what, "")
            found |= _seen(what, place)
        elif name:
            found[place] = ("whiteout", False, "") if what is None else ("file", False, what)
    return found


@settings(max_examples=60)
@given(st.lists(_LAYERS, min_size=1, max_size=3))
def test_layers_are_one_picture(layers: list[_Layer]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for number, layer in enumerate(layers):
            _write(layer, Path(directory, str(number)))
        upper = Upper([("", str(Path(directory, str(number)))) for number in range(len(layers))], OF_FUSE)
        merged = layers[-1]
        for layer in reversed(layers[:-1]):
            merged = _over(layer, merged)
        contents = {path: Path(e.place).read_text() if e.kind == "file" else "" for path, e in upper.entries.items()}
        assert {p: (e.kind, e.opaque, contents[p]) for p, e in upper.entries.items()} == _seen(merged)


def test_each_mount_point_has_its_own(tmp_path: Path) -> None:
    for name in ("root", "usr", "frozen"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    layers = [("", "root"), ("/usr", "usr"), ("", "frozen")]
    upper = Upper([(point, str(tmp_path / name)) for point, name in layers], OF_USERS)
    assert set(upper.entries) == {"/root", "/frozen", "/usr/usr"}


def test_what_vanishes_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "upper" / "a").mkdir(parents=True)
    shutil.rmtree(tmp_path / "upper" / "a")
    assert Upper([("", str(tmp_path / "upper")), ("", str(tmp_path / "gone"))], OF_USERS).entries == {}
    assert os.listdir(tmp_path) == ["upper"]


def test_which_attributes_are_notes_of_an_overlay() -> None:
    notes = ("user.overlay.opaque", "trusted.overlay.origin", "user.fuseoverlayfs.opaque")
    others = ("user.overlay.overlay.opaque", "user.my.overlay.note", "user.note", "security.capability")
    assert [marks.is_of_overlay(name) for name in (*notes, *others)] == [True] * 3 + [False] * 4


def test_deep_directories_do_not_need_as_many_descriptors(tmp_path: Path) -> None:
    deepest = tmp_path / "upper" / "/".join("d" * 150)
    deepest.mkdir(parents=True)

    def walk_with_few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        assert len(Upper([("", str(tmp_path / "upper"))], OF_USERS).entries) == 150

    assert in_a_child(walk_with_few) == 0

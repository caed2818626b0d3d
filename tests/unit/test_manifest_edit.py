"""The text of a sysenv.toml with packages added and dropped: nothing else of it changes, and it says what it shall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.errors import SysenvError
from sysenv_ns.manifest import edit, parser, writer
from sysenv_ns.manifest.document import Manifest

_NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9]{1,6}", fullmatch=True), max_size=4, unique=True)

_COMMENTED = """\
# ours
name = "proj"  # what it is

packages = [
    "zlib1g-dev",  # first, as it always was
    # for the tests
    "hello=1",
]
removed = ["nano"]

[files]
"/etc/x" = '''
packages = []
'''
"""


@pytest.mark.parametrize(
    ("text", "added", "expected"),
    [
        ("", ["a"], 'packages = ["a"]\n'),
        ('packages = ["a"]  # why\n', ["b", "a"], 'packages = ["a", "b"]  # why\n'),
        ('packages = ["a"]\n', ["a=2"], 'packages = ["a=2"]\n'),
        ('packages = ["a=2"]\n', ["a"], 'packages = ["a"]\n'),
        ('removed = ["nano", "vi"]\n', ["nano"], 'removed = ["vi"]\npackages = ["nano"]\n'),
        ('name = "x"\n\n[files]\n"/a" = "b"\n', ["c"], 'name = "x"\npackages = ["c"]\n\n[files]\n"/a" = "b"\n'),
        (_COMMENTED, ["ripgrep"], _COMMENTED.replace('    "hello=1",\n', '    "hello=1",\n    "ripgrep",\n')),
    ],
)
def test_added(text: str, added: list[str], expected: str) -> None:
    assert edit.with_packages(text, added) == expected


@pytest.mark.parametrize(
    ("text", "dropped", "expected"),
    [
        ('packages = ["a", "b=1", "c"]  # why\n', ["b"], 'packages = ["a", "c"]  # why\n'),
        ('packages = ["a"]\n', ["a=2"], "packages = []\n"),
        (_COMMENTED, ["zlib1g-dev"], _COMMENTED.replace('    "zlib1g-dev",  # first, as it always was\n', "")),
    ],
)
def test_dropped(text: str, dropped: list[str], expected: str) -> None:
    assert edit.without_packages(text, dropped) == expected


@pytest.mark.parametrize("text", ["", 'packages = ["a"]\n', 'removed = ["nano"]\n'])
def test_what_is_no_package_cannot_be_dropped(text: str) -> None:
    with pytest.raises(SysenvError, match="nano is no package of the") as raised:
        edit.without_packages(text, ["nano"])
    assert 'removed = ["nano"]' in raised.value.hint


@given(_NAMES, _NAMES, st.sampled_from(["", '[files]\n"/a" = "b"\n', '[[scripts]]\nrun = "true"\n']))
def test_the_text_says_it_whatever_was_there(before: list[str], added: list[str], rest: str) -> None:
    text = writer.render(Manifest(packages=tuple(before))) + rest
    after = edit.with_packages(text, added)
    manifest = parser.parse(after.encode(), "x")
    assert manifest.packages == tuple(dict.fromkeys((*before, *added)))
    assert after.endswith(rest)
    back = parser.parse(edit.without_packages(after, [n for n in added if n not in before]).encode(), "x")
    assert back.packages == tuple(before)

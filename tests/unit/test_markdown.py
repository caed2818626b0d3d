"""The documents: every relative link leads to a file, and its anchor to a heading; the index names all of them."""

import ast
import re
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[2]
_DOCUMENTS = sorted([*_CHECKOUT.glob("*.md"), *_CHECKOUT.glob("docs/**/*.md")])
_LINK = re.compile(r"\[[^\]]*\]\(\s*([^)\s]+)\s*\)")
_HEADING = re.compile(r"#{1,6} +(.+?)[ #]*")
_LITERAL = re.compile(r"``.+?``|`[^`]*`", re.DOTALL)


def _prose(text: str) -> str:
    """A document without what Markdown does not read: blocks of code, and code in a line."""
    fenced = re.sub(r"^(```|~~~).*?^\1[^\S\n]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return _LITERAL.sub("", "\n".join(line for line in fenced.splitlines() if not line.startswith("    ")))


def _links(text: str) -> list[str]:
    """The targets of the links of a document, but for those to the network."""
    return [
        target for target in _LINK.findall(_prose(text)) if "://" not in target and not target.startswith("mailto:")
    ]


def _anchors(text: str) -> set[str]:
    """The names of the headings as GitHub makes them; a second one of the same name gets a number."""
    anchors: set[str] = set()
    for line in text.splitlines():
        if found := _HEADING.fullmatch(line):
            name = re.sub(r"[^\w\- ]", "", found[1].lower()).replace(" ", "-")
            number = 0
            while (anchor := f"{name}-{number}" if number else name) in anchors:
                number += 1
            anchors.add(anchor)
    return anchors


def _leads_somewhere(link: str, document: Path, text: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve()
    if path and not (target.is_relative_to(_CHECKOUT) and target.exists()):
        return False
    return not anchor or anchor in _anchors(target.read_text() if path else text)


def _broken(document: Path, text: str) -> list[str]:
    """The links of a document with this text that lead nowhere."""
    return [link for link in _links(text) if not _leads_somewhere(link, document, text)]


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: str(path.relative_to(_CHECKOUT)))
def test_links_lead_somewhere(document: Path) -> None:
    assert _broken(document, document.read_text()) == []


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[one](docs/README.md) and [two](LICENSE), [three](docs/)", []),
        ("[a](docs/no-such.md)", ["docs/no-such.md"]),
        ("[a](docs/README.md#by-verb) [b](#here)\n\n## Here", []),
        ("[a](docs/README.md#by-nothing)", ["docs/README.md#by-nothing"]),
        ("[two\nlines](docs/no-such.md)", ["docs/no-such.md"]),
        ("![picture](docs/no-such.svg)", ["docs/no-such.svg"]),
        ("[out](../../etc/passwd)", ["../../etc/passwd"]),
        ("`[code](nowhere)`\n\n    [code](nowhere)\n\n```\n[code](nowhere)\n```\n", []),
        ("[web](https://example.org/nowhere)", []),
    ],
)
def test_what_counts_as_broken(text: str, broken: list[str]) -> None:
    assert _broken(_CHECKOUT / "README.md", text) == broken


def test_anchors_are_those_of_github() -> None:
    text = "# Files & `shell`: who?\n## Again\n### Again\n## The id map's_name\n"
    assert _anchors(text) == {"files--shell-who", "again", "again-1", "the-id-maps_name"}


def test_the_index_names_all_documents() -> None:
    index = _CHECKOUT / "docs" / "README.md"
    named = {(index.parent / link.partition("#")[0]).resolve() for link in _links(index.read_text())}
    assert set(_DOCUMENTS) - named == {index}


def test_the_package_names_documents_that_exist() -> None:
    sources = [path.read_text() for path in (_CHECKOUT / "sysenv_ns").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r"(?<![\w/])docs/[a-z-]+\.md", text)}
    assert sorted(name for name in named if not (_CHECKOUT / name).is_file()) == []


def test_the_walk_of_a_start_names_functions_that_exist() -> None:
    text = (_CHECKOUT / "docs" / "architecture.md").read_text()
    steps = re.findall(r"^\| `([\w/]+\.py)` \| `(\w+)` \|", text, flags=re.MULTILINE)
    assert len(steps) > 20
    missing = []
    for path, name in steps:
        nodes = ast.walk(ast.parse((_CHECKOUT / "sysenv_ns" / path).read_text()))
        if not any(isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name for n in nodes):
            missing.append(f"{path}: {name}")
    assert missing == []


def test_the_first_page_is_readable_as_text() -> None:
    lines = (_CHECKOUT / "README.md").read_text().splitlines()
    assert [line for line in lines if len(line) > 120] == []

"""What Debian's package and PyPI's archives are made of agrees with the project."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import links
import pytest

from sysenv_ns import __version__
from sysenv_ns.completion import scripts

_CHECKOUT = Path(__file__).resolve().parents[2]
_DEBIAN = _CHECKOUT / "debian"
_PROJECT = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())["project"]
_URL = "https://example.org/sysenv-ns"


def test_the_debian_package_has_the_version_of_the_tool() -> None:
    assert (_DEBIAN / "changelog").read_text().startswith(f"sysenv-ns ({__version__}) ")


def test_the_debian_package_depends_on_what_the_project_does() -> None:
    """By Debian's names; zstandard does what the backport of zstd does (archive/compression.py)."""
    depends = (_DEBIAN / "control").read_text().partition("\nDepends:")[2].partition("\nRecommends:")[0]
    names = {
        re.split(r"[^\w.]", dependency)[0].replace("backports.zstd", "zstandard")
        for dependency in _PROJECT["dependencies"]
    }
    assert [name for name in names if f"python3-{name}" not in depends] == []
    assert _PROJECT["requires-python"] in (_DEBIAN / "control").read_text().replace("X-Python3-Version: >= ", ">=")


def test_the_debian_package_has_the_completion_of_every_shell() -> None:
    rules, installed = (_DEBIAN / "rules").read_text(), (_DEBIAN / "sysenv-ns.install").read_text()
    for shell in scripts.SHELLS:
        made = re.search(rf"completion {shell} >\$\(made\)/(\S+)", rules)
        assert made
        assert f"debian/made/{made[1]} " in installed


def test_the_source_archive_has_all_that_the_repository_has() -> None:
    command = ["git", "-c", "safe.directory=*", "-C", str(_CHECKOUT), "ls-files"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip("this is no repository")
    top = {name.partition("/")[0] for name in result.stdout.split()}
    rules = (_CHECKOUT / "MANIFEST.in").read_text().split()
    by_setuptools = {"pyproject.toml", "LICENSE", "MANIFEST.in", "sysenv_ns"}
    assert {name for name in top - {*rules} - by_setuptools if not name.endswith(".md")} == set()


def test_no_link_of_the_first_page_leads_to_a_file_on_pypi() -> None:
    text = (_CHECKOUT / "README.md").read_text()
    for found in (links.absolute(text, _URL, "v1"), links.absolute(text, None, "v1")):
        assert [t for t in re.findall(r"\]\(([^)]*)\)", found) if not t.startswith(("#", "http"))] == []
    assert f"({_URL}/raw/v1/docs/transcript.svg)" in links.absolute(text, _URL, "v1")


@pytest.mark.parametrize(
    ("text", "with_url", "without"),
    [
        ("[a](docs/x.md#y)", f"[a]({_URL}/blob/v1/docs/x.md#y)", "a"),
        ("![a](docs/x.svg)", f"![a]({_URL}/raw/v1/docs/x.svg)", ""),
        ("[two\nwords](X.md), [b](#c)", f"[two\nwords]({_URL}/blob/v1/X.md), [b](#c)", "two\nwords, [b](#c)"),
        ("[a](https://x.org/b)", "[a](https://x.org/b)", "[a](https://x.org/b)"),
    ],
)
def test_links(text: str, with_url: str, without: str) -> None:
    assert links.absolute(text, f"{_URL}/", "v1") == with_url
    assert links.absolute(text, None, "v1") == without

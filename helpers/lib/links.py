"""PURE: the relative links of a document, for where the document stands without the files beside it."""

from __future__ import annotations

import re

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(\s*([^)\s]+)\s*\)")
_PICTURES = (".svg", ".png")


def absolute(text: str, url: str | None, revision: str) -> str:
    """A document in which links lead to a repository on the web; without one, their words are left.

    `url`: the repository's page, as GitHub and those that are like it have; `revision`: a tag or commit there.
    """

    def replaced(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        if "://" in target or target.startswith(("#", "mailto:")):
            return found[0]
        if url is None:
            return "" if picture else words
        kind = "raw" if target.endswith(_PICTURES) else "blob"
        return f"{picture}[{words}]({url.rstrip('/')}/{kind}/{revision}/{target})"

    return _LINK.sub(replaced, text)

"""PURE: the names and numbers of users and groups in account files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sysenv_ns import documents

PATHS = ("/etc/passwd", "/etc/group")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")


@dataclass(frozen=True)
class Accounts:
    """The users and groups of one side, numbers by names."""

    users: dict[str, int]
    groups: dict[str, int]

    def user(self, number: int) -> str:
        """A user's name; "" for none."""
        return _name(self.users, number)

    def group(self, number: int) -> str:
        """A group's name; "" for none."""
        return _name(self.groups, number)


def parse(passwd: bytes, group: bytes) -> Accounts:
    """The entries of the files; the first one of a name counts. Names that useradd(8) would refuse are left out."""
    return Accounts(*(dict(reversed(list(_numbers(data)))) for data in (passwd, group)))


def _numbers(data: bytes) -> Iterator[tuple[str, int]]:
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        fields = line.split(":")
        if len(fields) > 3 and NAME.fullmatch(fields[0]) and (number := documents.decimal(fields[2])) is not None:
            yield fields[0], number


def _name(numbers: dict[str, int], wanted: int) -> str:
    return next((name for name, number in reversed(numbers.items()) if number == wanted), "")

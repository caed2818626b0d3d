"""Runs in the guest, as root: what a user's environments cost there, as ratios to the same without them.

Usage: python3 -m kernel_matrix.costs USER TOOL DRIVER; the rows are JSON on standard output. Sides run alternately,
once untimed before, except where the first time is what is measured.
"""

from __future__ import annotations

import contextlib
import json
import pwd
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

from bench.accounts import Account, Failure, Worker

FIRST, START, WALK, COMPILE, APT = (
    "from the first command to a running `hello` / apt-get without the tool, and a start",
    '`exec NAME -- true` / `python3 -c "import click"`',
    "`find /usr` over the whole tree, warm / without the tool",
    "5 times gcc / without the tool",
    "apt-get install and purge of `hello` / without the tool",
)
PACKAGE = "hello"
VARIABLES = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
INSTALL, PURGE = (["apt-get", "-q", "-y", verb, PACKAGE] for verb in ("install", "purge"))
HELLO = '#include <stdio.h>\nint main(void) { puts("Hello world"); return 0; }\n'
RUNS, FIRST_RUNS = 3, 2

Timer = Callable[[], float]


def ratio(inside: Timer, outside: Timer, runs: int = RUNS, warm_up: int = 1) -> float:
    """The median of the ratios of pairs."""
    pairs = [(inside(), outside()) for _ in range(runs + warm_up)][warm_up:]
    return statistics.median(a / b for a, b in pairs)


def account(name: str) -> Account:
    """A user as after logging in."""
    user = pwd.getpwnam(name)
    return Account(user, user.pw_dir, VARIABLES | {"HOME": user.pw_dir, "USER": name, "LOGNAME": name})


class Costs:
    """One driver's."""

    def __init__(self, user: Account, root: Account, tool: str, driver: str) -> None:
        self._user, self._root, self._tool, self._driver = user, root, tool, driver

    def rows(self) -> Iterator[tuple[str, float]]:
        """Names and ratios. Raises Failure, OSError."""
        user = self._at("kept")
        yield FIRST, ratio(self._first, self._plainly, FIRST_RUNS, warm_up=0)
        self._prepare(user)
        user.run(self._tool, "create", "--driver", self._driver, "kept")
        enter = (self._tool, "exec", "kept", "--")
        python = self._tool.replace("helpers/sysenv-ns", ".venv/bin/python3")
        yield START, ratio(lambda: user.time(*enter, "true"), lambda: user.time(python, "-c", "import click"))
        with contextlib.ExitStack() as stack:
            inside, outside, as_root = Worker(user, *enter), Worker(user), Worker(self._root)
            for worker in (inside, outside, as_root):
                stack.callback(worker.process.communicate)
            find = ["find", "/usr", "-xdev", "-size", "+1G"]
            yield WALK, ratio(lambda: inside.time(find), lambda: outside.time(find))
            gcc = ["gcc", f"{user.directory}/hello.c", "-o", f"/tmp/{self._driver}"]
            plain = [*gcc[:-1], "/tmp/plain"]
            yield COMPILE, ratio(lambda: inside.time(gcc, 5), lambda: outside.time(plain, 5))
            yield APT, ratio(lambda: _apt(inside), lambda: _apt(as_root))
        self._forget("kept")

    def _at(self, store: str) -> Account:
        variables = self._user.variables | {"SYSENV_NS_HOME": f"{self._user.directory}/{store}"}
        return replace(self._user, variables=variables)

    def _prepare(self, user: Account) -> float:
        return user.time(self._tool, "host", "prepare") if self._driver == "idmap" else 0

    def _first(self) -> float:
        """A new user's first commands, with what sudo has to do before."""
        user = self._at("first")
        seconds = self._prepare(user)
        seconds += user.time(self._tool, "exec", "--driver", self._driver, "first", "--", *INSTALL)
        return seconds + user.time(self._tool, "exec", "first", "--", PACKAGE)

    def _plainly(self) -> float:
        """What apt itself takes, and a start."""
        seconds = self._at("first").time(self._tool, "exec", "first", "--", "true")
        self._forget("first")
        seconds += self._root.time(*INSTALL) + self._root.time(PACKAGE)
        self._root.run(*PURGE)
        return seconds

    def _forget(self, store: str) -> None:
        user = self._at(store)
        user.run(self._tool, "stop", "--all")
        user.run(self._tool, "remove", "--all", "--yes")
        if self._driver == "idmap":
            user.run(self._tool, "host", "release")


def _apt(worker: Worker) -> float:
    return worker.time(INSTALL) + worker.time(PURGE)


def main() -> None:
    """A line of JSON for each row: driver, what, and the ratio; or what failed."""
    name, tool, driver = sys.argv[1:]
    user, root = account(name), account("root")
    user.run("sh", "-c", f"printf '%s' '{HELLO}' > hello.c")
    try:
        for what, number in Costs(user, root, tool, driver).rows():
            print(json.dumps({"driver": driver, "what": what, "ratio": number}), flush=True)
    except (Failure, OSError) as failure:
        print(json.dumps({"driver": driver, "error": str(failure)}), flush=True)


if __name__ == "__main__":
    main()

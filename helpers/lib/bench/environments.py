"""The environments that are measured, and what all rows have in common."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from .accounts import Account, Failure, Worker
from .table import Row, Timer, compare

BUSY, IDLE, MANY = "busy", "idle", "many"  # the environments: in one lives a worker, in one nothing, one has many files
# 100 packages get an older version in an environment's database, and in what it takes for the host that it came from.
AGE_INSIDE = """
cd /var/lib/dpkg
awk '/^Version:/ && n++ < 100 { print "Version: 0~bench"; next } { print }' status > status.bench
mv status.bench status
"""
AGE_OUTSIDE = """
cd "$1"/origins*
rm -rf be0c be0c-root
key=$(ls | head -n 1)
case $key in *-root) new=be0c-root ;; *) new=be0c ;; esac
cp -r "$key" "$new"
cp "$2/upper/var/lib/dpkg/status" "$new/var/lib/dpkg/status"
echo "{\\"packages\\": \\"$new\\", \\"accounts\\": \\"$new\\"}" > "$2/origin.json"
"""


@dataclass
class Environments:
    """The environments and workers, which are made when a row first asks for them."""

    account: Account  # its directory is the throwaway one, its variables name the throwaway store
    tool: str
    runs: int
    few: int  # runs of what takes long
    warms_up: bool  # whether each side runs once untimed before
    outside_apt: bool
    cleanup: contextlib.ExitStack
    status: dict[str, Any]  # what the tool says about the idle environment
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def enter(self, name: str, *command: str) -> list[str]:
        """The command line that runs a command in an environment."""
        return [self.tool, "exec", name, "--", *command]

    def entering(self, name: str) -> Timer:
        """The seconds that a session in an environment takes which does nothing."""
        return partial(self.account.time, *self.enter(name, "true"))

    @cached_property
    def workers(self) -> tuple[Worker, Worker]:
        """One in the busy environment and one on the host; they end before the environment is removed."""
        places = (replace(self.account, directory=f"{self.account.directory}/{n}") for n in ("inside", "outside"))
        workers = Worker(next(places), *self.enter(BUSY)), Worker(next(places))
        for worker in workers:
            self.cleanup.callback(worker.process.communicate)
        return workers

    def compare(
        self, name: str, first: Timer, second: Timer, runs: int, target: float | None, warms_up: bool = True
    ) -> Row:
        """Run both sides alternately; what begins with nothing, like a build, cannot warm up."""
        return compare(name, first, second, runs, target, warm_up=int(warms_up and self.warms_up))

    def new(self, name: str) -> None:
        """An environment for as long as the measurement lasts."""
        self.account.run(self.tool, "create", name)
        self.cleanup.callback(self.account.run, self.tool, "remove", "--purge", name)

    @cached_property
    def many(self) -> str:
        """The upper directory of an environment with a copy of /usr/share."""
        self.new(MANY)
        script = "mkdir /opt/bench; cp -r /usr/share /opt/bench; chmod -R a+rX /opt/bench"
        self.account.run(*self.enter(MANY, "sh", "-c", script))
        return str(Path(self.status["path"]).with_name(MANY) / "upper")

    @cached_property
    def linked(self) -> str:
        """A command that `link` has made."""
        # Its scripts go to ~/.local/bin, which must not be the user's own here.
        home, cache = self.account.directory, f"{self.account.user.pw_dir}/.cache"
        variables = self.account.variables | {"HOME": home, "XDG_CACHE_HOME": cache}
        replace(self.account, variables=variables).run(self.tool, "link", IDLE, "true")
        return f"{home}/.local/bin/true"

    @cached_property
    def python(self) -> str:
        """The Python that runs the tool: a link names it. That of a checkout can be anywhere."""
        return python_of(self.account.run("cat", self.linked))

    def build(self) -> float:
        """The seconds that a new store takes until it has its base."""
        # Each run leaves its tree for the end: for minutes ext4 passes over inodes just freed, one by one.
        return self.built(f"build{next(self.numbers)}")

    def built(self, store: str) -> float:
        """The same for the store of this name."""
        os.sync()  # not to pay for what others, or the previous run, left to write
        return self.at(store).time(self.tool, "create", "new")

    def at(self, store: str) -> Account:
        """The account with another store."""
        variables = self.account.variables | {"SYSENV_NS_HOME": f"{self.account.directory}/{store}"}
        return replace(self.account, variables=variables)

    def used(self) -> int:
        """The bytes that are used on the disk of the stores."""
        os.sync()
        state = os.statvfs(self.account.directory)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    def age(self, name: str) -> None:
        """Let it seem to an environment that 100 packages of the host have changed since it was made."""
        self.account.run(*self.enter(name, "sh", "-ec", AGE_INSIDE))
        path = str(Path(self.status["path"]).with_name(name))
        store = self.account.variables["SYSENV_NS_HOME"]
        self.account.run("sh", "-ec", AGE_OUTSIDE, "sh", store, path)


def python_of(script: str) -> str:
    """The program that a linked command ends in."""
    _, last, command = script.rpartition("\nexec ")
    if not (last and command.strip()):
        raise Failure("a linked command has no exec")
    return shlex.split(command)[0]


def forget(store: Path, files: set[str]) -> None:
    """Make the base remember these files and directories as others than they are, and the package database too."""
    for described in store.glob("base/*/*/usr.json"):
        index = described.with_name("usr.index.json")
        data, seen = (json.loads(path.read_text()) for path in (described, index))
        watched = data["watched"].split("\0")  # a path and its signature, in turns
        watched[watched.index("/var/lib/dpkg/status") + 1] = "0 0 0"
        data["watched"] = "\0".join(watched)
        for part in (seen["directories"], seen["stubs"], seen["copied"]):
            part.update({path: [0, 0, part[path][2]] for path in part.keys() & files})
        described.write_text(json.dumps(data))
        index.write_text(json.dumps(seen))

"""Runs programs as one user, once or in workers that stay, and takes their time; knows no rows."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import worker

LARGEST_STATUS = {"find": 1, "cp": 1, "du": 1, "sh": 1}  # unreadable files and dangling links are no failure


class Failure(Exception):
    """A measurement that could not be made; the message says why."""


@dataclass(frozen=True)
class Account:
    """Runs programs as one user, with a clean environment."""

    user: pwd.struct_passwd
    directory: str
    variables: dict[str, str]

    def start(self, command: Sequence[str], **pipes: Any) -> subprocess.Popen[str]:
        """Start a program. Raises OSError."""
        if self.user.pw_uid != os.geteuid():
            groups = os.getgrouplist(self.user.pw_name, self.user.pw_gid)
            pipes |= {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": groups}
        return subprocess.Popen(command, text=True, cwd=self.directory, env=self.variables, **pipes)

    def run(self, *command: str) -> str:
        """Run a program to its end; gives its output. Raises Failure."""
        pipe = subprocess.PIPE
        with self.start(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
            output, errors = process.communicate()
        if not 0 <= process.returncode <= LARGEST_STATUS.get(command[0], 0):
            raise Failure(f"{' '.join(command)}: status {process.returncode}: {errors.strip()[-400:]}")
        return output

    def time(self, *command: str) -> float:
        """The seconds that a program takes from start to end. Raises Failure."""
        begin = time.perf_counter()
        self.run(*command)
        return time.perf_counter() - begin

    def delete(self, path: str) -> None:
        """Delete a tree. Parts of a base belong to subordinate ids: only in a user namespace can they go."""
        ways = "unshare --map-root-user --map-auto", "unshare --map-root-user", ""
        calm = "trap '' INT TERM; "  # a signal to the whole process group must not leave half of it
        self.run("sh", "-c", calm + " || ".join([*(f'{way} rm -rf "$1"' for way in ways), "exit 2"]), "sh", path)


class Worker:
    """A process inside or outside that runs commands and tells how long they took."""

    def __init__(self, account: Account, *prefix: str) -> None:
        # The source and not its path: another user, or an environment, need not see the checkout.
        command = [*prefix, "/usr/bin/python3", "-I", "-c", Path(worker.__file__).read_text()]
        self.process: Any = account.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def time(self, command: Sequence[str], times: int = 1) -> float:
        """The seconds of `times` runs of a command, one after the other. Raises Failure."""
        print(json.dumps([times, command]), file=self.process.stdin, flush=True)
        seconds, status = json.loads(self.process.stdout.readline() or "[0, 255]")  # it ended
        if status > LARGEST_STATUS.get(command[0], 0):
            raise Failure(f"{' '.join(command)}: status {status}")
        return float(seconds)

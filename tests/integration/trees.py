"""Two trees compared the slow way, by looking at every file: what diff is measured against."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .machines import output
from .support import BASE_LIMIT, Environment, succeeded

TOP = ("bin", "boot", "etc", "opt", "root", "srv", "usr", "var")
PASSED_OVER = ("/var/tmp",)

# What is at each path: type, mode, owner, size, content or destination, and of a file time and size, which need no
# reading; what cannot be read is empty.
_DUMP = r"""
import hashlib, json, os, stat, sys
kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo"}
kinds |= {stat.S_IFSOCK: "socket"}
look, passed_over, end = sys.argv[1], json.loads(sys.argv[2]), 1 << 16
def content(path, status):
    if look == "times":
        return "", status.st_size
    with open(path, "rb") as stream:
        data, begin = b"", 0
        if look == "ends" and status.st_size > 2 * end:
            data = stream.read(end)
            begin = stream.seek(-end, os.SEEK_END)
        rest = stream.read()
    return hashlib.sha256(data + rest).hexdigest(), begin + len(rest)
found, waiting = {}, sys.argv[3:]
while waiting:
    path = waiting.pop()
    try:
        status = os.lstat(path)
    except OSError:
        continue
    kind = kinds.get(stat.S_IFMT(status.st_mode), "device")
    what, size, time = "", 0, ""
    if path in passed_over:
        continue
    try:
        if kind == "directory":
            waiting += [f"{path}/{name}" for name in os.listdir(path)]
        elif kind == "symlink":
            what = os.readlink(path)
        elif kind == "file":
            time = f"{status.st_mtime_ns} {status.st_size}"
            what, size = content(path, status)
    except PermissionError:
        what = hashlib.sha256(b"").hexdigest() if kind == "file" else ""
    mode = 0o777 if kind == "symlink" else stat.S_IMODE(status.st_mode)
    found[path] = [kind, mode, status.st_uid, status.st_gid, size, what, time]
print(json.dumps(found))
"""

# Of each file: all that is in it; of a large one only what is at its ends; nothing, but when it was changed.
Look = Literal["content", "ends", "times"]
Tree = dict[str, list[Any]]  # type, mode, uid, gid, size, and content or destination
Dated = dict[str, list[Any]]  # the same, and of a file its time and size
Expected = dict[str, tuple[str, list[Any] | None, list[Any] | None]]


def inside(environment: Environment, *paths: str) -> Tree:
    """What an environment has at and below these paths, as its root sees it."""
    return undated(dated_inside(environment, *paths))


def outside(environment: Environment, *paths: str) -> Tree:
    """What the host has there, as the user sees it, with owners as they are to be inside."""
    return undated(dated_outside(environment, *paths))


def dated_inside(
    environment: Environment, *paths: str, look: Look = "content", passed_over: Sequence[str] = PASSED_OVER
) -> Dated:
    """What an environment has, and since when."""
    command = ("python3", "-B", "-c", _DUMP, look, json.dumps(passed_over), *paths)
    return _parsed(succeeded(environment.exec(*command, limit=BASE_LIMIT)).stdout)


def dated_outside(
    environment: Environment, *paths: str, look: Look = "content", passed_over: Sequence[str] = PASSED_OVER
) -> Dated:
    """What the host has, and since when."""
    tool = environment.tool
    command = ("/usr/bin/python3", "-B", "-c", _DUMP, look, json.dumps(passed_over), *paths)
    tree = _parsed(output(*tool.beginning, *command))
    if tool.mode == "single":
        tree = {path: [kind, mode, 0, 0, *rest] for path, (kind, mode, _, _, *rest) in tree.items()}
    return tree


def undated(tree: Dated) -> Tree:
    """Without the times."""
    return {path: facts[:-1] for path, facts in tree.items()}


def same(before: Dated, later: Dated) -> set[str]:
    """The paths where nothing has changed; of files, as far as their times and sizes tell."""
    return {path for path in {*before} & {*later} if _without_content(before[path]) == _without_content(later[path])}


def _without_content(facts: Sequence[Any]) -> Sequence[Any]:
    kind, mode, uid, gid, size, what, time = facts
    return (kind, mode, uid, gid, time) if kind == "file" else (kind, mode, uid, gid, size, what)


def without_the_largest() -> tuple[str, ...]:
    """What to pass over so that no directory of /usr/lib with 20,000 files is looked at: some vendor's software."""
    directories = [entry.path for entry in os.scandir("/usr/lib") if entry.is_dir(follow_symlinks=False)]
    large = (path for path in directories if sum(len(files) for _, _, files in os.walk(path)) >= 20_000)
    return (*PASSED_OVER, *large)


def _parsed(text: str) -> Dated:
    data = json.loads(text)
    assert isinstance(data, dict)
    return data


def compare(host: Mapping[str, list[Any]], own: Mapping[str, list[Any]]) -> Expected:
    """What is different, by path: its kind, and both sides; of what is gone as a whole only the outermost."""
    found: Expected = {}
    for path in {*host, *own}:
        old, new = host.get(path), own.get(path)
        kind = _kind(old, new)
        parent = path.rpartition("/")[0]
        gone_with_parent = kind == "deleted" and parent in host and own.get(parent, [""])[0] != "directory"
        if kind and not gone_with_parent:
            found[path] = (kind, old, new)
    return found


def _kind(old: list[Any] | None, new: list[Any] | None) -> str:
    if old is None or new is None:
        return "deleted" if new is None else "added"
    if old[0] != new[0]:
        return "type"
    if old[4:] != new[4:]:
        return "modified"
    return "" if old == new else "metadata"


def told(changes: Sequence[Mapping[str, Any]], *paths: str) -> Expected:
    """What `diff --json` says of these paths, in the same form but for the content."""
    below = tuple(f"{path}/" for path in paths)
    return {
        change["path"]: (change["kind"], _facts(change["old"]), _facts(change["new"]))
        for change in changes
        if change["path"] in paths or change["path"].startswith(below)
    }


def without_content(expected: Expected) -> Expected:
    """The facts alone."""
    return {path: (kind, old and old[:5], new and new[:5]) for path, (kind, old, new) in expected.items()}


def _facts(facts: Mapping[str, Any] | None) -> list[Any] | None:
    if facts is None:
        return None
    return [facts["type"], int(facts["mode"], 8), facts["uid"], facts["gid"], facts["size"]]

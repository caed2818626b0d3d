"""Runs commands inside or outside and tells how long they took; alone, as its source is what runs there."""

from __future__ import annotations

import json
import os
import sys
import time


def serve() -> None:
    """Be a worker: a job per line on stdin; its seconds and greatest exit status per line on stdout."""
    null = [(os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0) for number in range(3)]
    for line in sys.stdin:
        times, command = json.loads(line)
        worst, begin = 0, time.perf_counter()
        for _ in range(times):
            pid = os.posix_spawnp(command[0], command, os.environ, file_actions=null)
            worst = max(worst, abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        print(json.dumps([time.perf_counter() - begin, worst]), flush=True)


if __name__ == "__main__":
    serve()

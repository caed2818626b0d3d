"""Prints the seconds a start needs to find out that the base of the environment named still holds: the median of 21."""

from __future__ import annotations

import statistics
import sys
import time

from sysenv_ns.drivers import driver
from sysenv_ns.environment import config, directory, store


def main() -> None:
    """Compare the base with the host again and again."""
    found = store.Store(directory.store_location())
    environment = found.load(sys.argv[1])
    host = driver.of(environment).surveyed(environment, config.host(found, environment))
    base = driver.of(environment).base(found, environment, host.wishes)
    if base is None:
        raise SystemExit(f"the driver {environment.driver} has no base")
    seconds = []
    for _ in range(21):
        begin = time.perf_counter()
        if not base.holds(host):
            raise SystemExit("the base does not hold: the host is changing")
        seconds.append(time.perf_counter() - begin)
    print(statistics.median(seconds))


if __name__ == "__main__":
    main()

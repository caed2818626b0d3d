"""Changes modes and owners of many small host files, then of copies that are the environment's own; runs inside."""

from __future__ import annotations

import os
import shutil
import time

FILES = 10_000


def chmod(path: str) -> None:
    """Another mode."""
    os.chmod(path, os.stat(path).st_mode ^ 1)


def chown(path: str) -> None:
    """Another owner."""
    os.chown(path, 1, 1)


def main() -> None:
    """Print the seconds of both for each operation: what it does to host files, and to the others."""
    found = (os.path.join(place, name) for place, _, names in os.walk("/usr") for name in names)
    small = (path for path in found if not os.path.islink(path) and 0 < os.path.getsize(path) < 4096)
    for operation in (chmod, chown):
        paths = [path for path, _ in zip(small, range(FILES), strict=False)]
        directory = f"/opt/{operation.__name__}"
        os.mkdir(directory)
        copies = [shutil.copy2(path, f"{directory}/{number}") for number, path in enumerate(paths)]
        os.sync()
        for names in (paths, copies):
            begin = time.monotonic()
            for name in names:
                operation(name)
            print(time.monotonic() - begin)


if __name__ == "__main__":
    main()

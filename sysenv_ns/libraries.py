"""The way to other projects' modules, for a process that began without it (python -S): a start needs none of them, and
Python would look for them at each start.
"""

import sys


def find() -> None:
    """Do what Python itself does at its beginning, unless it has: let it find what is installed."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()

"""python3 DIRECTORY systemctl|service|journalctl ARGUMENTS, as the stand-ins on PATH do it."""

import importlib
import os
import sys

sys.path[0] = os.path.abspath(f"{sys.path[0]}/../..")  # for imports of sysenv_ns.within
assert sys.argv[1] in ("systemctl", "service", "journalctl")
sys.exit(importlib.import_module(f"sysenv_ns.within.{sys.argv[1]}").main(sys.argv[2:]))

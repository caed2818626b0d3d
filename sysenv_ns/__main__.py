"""`python -m sysenv_ns`: the command line, nothing else."""

from sysenv_ns.cli import main

main()

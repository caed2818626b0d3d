"""The databases of the host's package manager, and what an environment's differ in."""

"""The databases of the host's package managers, and how an environment's differ."""

"""diff: what an environment changed against the host."""

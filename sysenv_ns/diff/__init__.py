"""diff: what an environment changed compared with the host."""

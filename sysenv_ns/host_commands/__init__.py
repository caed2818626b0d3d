"""Commands of the host for who is in an environment: asked for inside, run by a process outside."""

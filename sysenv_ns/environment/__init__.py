"""An environment and its store: paths, what runs, what is frozen; mounts nothing."""

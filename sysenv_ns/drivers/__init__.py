"""The drivers: how the files of the host get into an environment, one module each."""

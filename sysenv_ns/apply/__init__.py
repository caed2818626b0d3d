"""apply: applies an environment's packages and files to this system, and undoes that."""

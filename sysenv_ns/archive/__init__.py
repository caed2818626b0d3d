"""export and import: an environment as one file, for another user, machine, id map or driver."""

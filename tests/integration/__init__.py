"""A real user, real namespaces, real packages: nothing here is simulated."""

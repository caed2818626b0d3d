"""The system calls and what is made of them: namespaces, id maps, mounts, filters. Knows of no environment."""

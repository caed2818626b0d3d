"""System calls and what is built on them: namespaces, id maps, mounts, filters. Knows no environment."""

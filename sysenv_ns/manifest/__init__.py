"""freeze and sync: an environment as a short text, sysenv.toml, and environments that match one."""

"""What root makes for a user: read-only idmapped mounts of the host's programs, and a launcher that AppArmor allows."""

"""Environments in OCI registries: what push sends and pull fetches, by skopeo."""

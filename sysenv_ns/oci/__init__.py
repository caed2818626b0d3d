"""An environment as an OCI image: all of its root in one archive that podman and docker load."""

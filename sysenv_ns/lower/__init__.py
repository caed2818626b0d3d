"""The base layers: what environments have of the host below their changes."""

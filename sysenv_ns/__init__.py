"""A virtualenv for system packages, without root."""

__version__ = "0.1.0"

"""The parts of helpers/kernel-matrix."""

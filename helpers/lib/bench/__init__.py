"""The parts of helpers/bench."""

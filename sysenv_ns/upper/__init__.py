"""An environment's changes: where they lie, how they are read and merged."""

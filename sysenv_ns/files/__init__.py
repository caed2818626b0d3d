"""Files and trees of any origin: read, copied, deleted, merged, replaced; knows no environment."""

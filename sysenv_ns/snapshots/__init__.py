"""Frozen changes: snapshot, history, rollback, clone."""

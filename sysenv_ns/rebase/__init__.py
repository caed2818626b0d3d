"""rebase: moves an environment onto today's host."""

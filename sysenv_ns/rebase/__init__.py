"""rebase: updates an environment to today's host."""

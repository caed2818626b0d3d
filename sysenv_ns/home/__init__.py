"""Programs of an environment as commands of its user's: which, link, unlink."""

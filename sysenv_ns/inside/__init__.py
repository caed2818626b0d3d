"""What a session does in its environment between the pivot and the command; what it needs is imported before."""

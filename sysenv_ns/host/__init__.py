"""What the host is and how an environment sees it: reads and plans, writes nothing."""

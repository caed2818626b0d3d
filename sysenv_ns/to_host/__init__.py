"""apply: carries an environment's packages and files over to this system, and takes that back."""

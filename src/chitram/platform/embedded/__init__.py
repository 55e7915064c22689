"""Real PostgreSQL and Valkey servers as children of this process."""

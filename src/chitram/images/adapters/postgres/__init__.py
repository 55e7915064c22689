"""Images in PostgreSQL."""

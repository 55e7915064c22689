"""The lines of the table: each module here has `LINES`."""

TOPICS = ("reading", "uploads", "processing", "mixed", "memory", "startup")

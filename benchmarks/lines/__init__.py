"""The lines of the table; each module here has `LINES`."""

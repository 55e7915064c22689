"""What makes load, and says what it saw."""

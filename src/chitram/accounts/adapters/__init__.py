"""What accounts use of the outside."""

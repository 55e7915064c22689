"""HTTP's rules on ranges, conditions, caching and file names."""

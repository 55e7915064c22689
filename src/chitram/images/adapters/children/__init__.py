"""Confined child processes: how they are started, limited, spoken to, lent and replaced."""

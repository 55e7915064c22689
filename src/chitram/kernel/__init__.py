"""Ids, clock, error categories, unit of work and outbox: what every room may use."""

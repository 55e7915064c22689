"""Chitram: a self-hosted image host."""

"""Chitram: a self-hosted image host."""

from importlib.metadata import version

__version__ = version("chitram")

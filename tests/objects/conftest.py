"""The server that the tests of the remote store share."""

from tests.support.seaweed import seaweed

__all__ = ["seaweed"]

"""What long tests share with those of the API."""

from __future__ import annotations

import pytest

from tests.api.conftest import start_api

__all__ = ["start_api"]


@pytest.fixture(scope="session")
def store() -> str:
    """Long tests keep images in local files, unless they say otherwise."""
    return "local"

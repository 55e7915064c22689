"""Places and servers for the tests of the embedded stack."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from chitram.platform.embedded.directory import DataDirectory
from chitram.platform.embedded.postgres import Postgres
from tests.support.servers import data_place

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")


class Mount(Protocol):
    """Mounts a small file system on a directory for as long as a block lasts."""

    def __call__(self, path: Path, options: str) -> AbstractContextManager[None]: ...


@pytest.fixture
def place() -> Iterator[Path]:
    with data_place() as path:
        yield path


@pytest.fixture
def directory(place: Path) -> Iterator[DataDirectory]:
    directory = DataDirectory(place)
    with directory.held():
        yield directory


@pytest.fixture
def postgres(directory: DataDirectory) -> Postgres:
    return Postgres(directory, durable=False)


@pytest.fixture
def mount() -> Mount:
    @contextmanager
    def mounted(path: Path, options: str) -> Iterator[None]:
        command = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", options, "none", str(path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.run([shutil.which("umount") or "umount", str(path)], check=True)

    return mounted

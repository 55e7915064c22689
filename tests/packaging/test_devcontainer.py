from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging.dockerfile import read_stages

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".devcontainer"
SCRIPT = FOLDER / "post-create.sh"

CONTAINER = json.loads((FOLDER / "devcontainer.json").read_text())


def test_the_container_runs_the_script_once_it_is_made() -> None:
    assert CONTAINER["postCreateCommand"] == str(SCRIPT.relative_to(ROOT))
    assert os.access(SCRIPT, os.X_OK)
    assert 8000 in CONTAINER["forwardPorts"]


def test_the_script_is_free_of_syntax_errors() -> None:
    bash = shutil.which("bash") or pytest.skip("bash is not installed")
    done = subprocess.run([bash, "-n", SCRIPT], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_people_work_in_the_container_as_an_ordinary_user() -> None:
    [stage] = read_stages(FOLDER / CONTAINER["build"]["dockerfile"])
    user = stage.last("USER").rest
    assert CONTAINER["remoteUser"] == user
    assert user != "root"
    assert any(
        f"useradd --create-home --uid 1000 --shell /bin/bash {user}" in run.rest for run in stage.every("RUN")
    )
    assert ":" in stage.base
    assert not stage.base.endswith(":latest")

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import run
from chitram.platform.embedded.ports import ReservedPort
from tests.packaging.dockerfile import read_stages
from tests.support.servers import data_place

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


@pytest.fixture
def prepared() -> None:
    """Skip where the script would begin by installing into the environment that runs the tests."""
    stamp = run.VENV / ".prepared"
    if not stamp.exists() or run.fingerprint("dev") not in stamp.read_text().split():
        pytest.skip("the environment was not prepared by `python3 run.py _dev-env`")


def run_script(data: Path, port: int) -> subprocess.CompletedProcess[str]:
    settings = {"CHITRAM_DATA_DIR": str(data), "CHITRAM_HTTP_PORT": str(port), "PYTHON": sys.executable}
    return subprocess.run([SCRIPT], check=False, capture_output=True, text=True, env=os.environ | settings)


@pytest.mark.usefixtures("prepared")
def test_the_script_ends_in_a_passing_health_check_and_leaves_nothing_running() -> None:
    reserved = ReservedPort()
    with data_place() as data:
        done = run_script(data, reserved.number)
        assert done.returncode == 0, done.stderr
        report, verdict = done.stdout.splitlines()
        assert json.loads(report)["status"] == "healthy"
        assert verdict.startswith("Ready.")
        assert not (data / "run" / "servers.json").exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", reserved.number)) != 0


@pytest.mark.usefixtures("prepared")
def test_the_script_fails_with_the_reason_when_the_stack_does_not_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, data_place() as data:
        done = run_script(data, taken.getsockname()[1])
        assert done.returncode == 1
        assert "is in use" in done.stderr
        assert done.stdout == ""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from valkey.asyncio import Valkey

from chitram.platform.objects.registry import stores_from_settings
from chitram.platform.settings import PREFIX, Settings, load_settings
from chitram.platform.tally import Tally
from tests.packaging.dockerfile import Stage, is_sent_to_the_build, read_stages

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
EXAMPLE = DOCKER / ".env.example"
MAKE_ENV = DOCKER / "make-env.sh"
IGNORE = ROOT / ".dockerignore"

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
OWN_SERVICES = ("migrate", "api", "worker")
ONE_SHOT = {"migrate"}

# ${NAME}, ${NAME:-default} and ${NAME:?message}; $$ is a dollar sign.
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")

SECRET = "as-long-as-what-make-env-writes-which-is-48-long-"


def example() -> dict[str, str]:
    lines = (line.partition("=") for line in EXAMPLE.read_text().splitlines() if "=" in line)
    return {name: value for name, _, value in lines if not name.startswith("#")}


def environment_of(service: str) -> dict[str, str]:
    """Return what compose would set for a service, each empty secret filled with `SECRET`."""
    values = {name: value or SECRET for name, value in example().items()}
    return {
        name: VARIABLE.sub(lambda found: values[found[1]], str(value))
        for name, value in SERVICES[service].get("environment", {}).items()
    }


@functools.cache
def final_stage() -> Stage:
    return read_stages(DOCKER / "Dockerfile")[-1]


def test_compose_runs_the_servers_the_migration_the_api_and_the_worker() -> None:
    assert SERVICES.keys() == {"postgres", "valkey", "seaweedfs", "minio", *OWN_SERVICES}
    assert SERVICES["minio"]["profiles"] == ["minio"]
    assert [name for name in SERVICES if "profiles" in SERVICES[name]] == ["minio"]


def test_every_variable_of_compose_is_explained_in_the_example() -> None:
    assert {found[1] for found in VARIABLE.finditer(COMPOSE.read_text())} == example().keys()


def test_a_secret_has_no_default_and_no_example() -> None:
    secrets = {name for name in example() if name.endswith(("PASSWORD", "KEY", "KEYS"))}
    assert len(secrets) == 5
    for found in VARIABLE.finditer(COMPOSE.read_text()):
        if found[1] in secrets:
            assert found[2] == "?", f"{found[1]} may be missing"
            assert found[3]
    assert [example()[name] for name in secrets] == [""] * 5


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_has_an_explicit_tag(service: str) -> None:
    image = VARIABLE.sub(lambda found: example()[found[1]], SERVICES[service]["image"])
    _, separator, tag = image.rpartition(":")
    assert separator
    assert tag != "latest"


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_a_health_check_or_runs_to_its_end(service: str) -> None:
    if service in ONE_SHOT:
        assert SERVICES[service]["restart"] == "no"
        return
    checked = SERVICES[service].get("healthcheck")
    inherited = "build" in SERVICES[service] and bool(final_stage().every("HEALTHCHECK"))
    assert checked or inherited
    assert not (checked or {}).get("disable")


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_is_confined(service: str) -> None:
    definition = SERVICES[service]
    assert definition["read_only"] is True
    assert definition["cap_drop"] == ["ALL"]
    assert "cap_add" not in definition
    assert definition["security_opt"] == ["no-new-privileges:true"]
    limits = definition["deploy"]["resources"]["limits"]
    assert limits["memory"]
    assert limits["pids"]
    assert "user" in definition or "build" in definition


def test_ports_are_published_by_the_api_alone_and_on_the_loopback_address() -> None:
    assert [name for name in SERVICES if SERVICES[name].get("ports")] == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["api"]["ports"])


def test_the_servers_are_on_the_internal_network_alone() -> None:
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert networks["stores"]["internal"] is True
    outside = [name for name in SERVICES if SERVICES[name]["networks"] != ["stores"]]
    assert outside == ["api"]


def test_what_is_to_last_is_on_named_volumes() -> None:
    declared = yaml.safe_load(COMPOSE.read_text())["volumes"]
    used = {mount.partition(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert used == declared.keys()
    assert "postgres:/var/lib/postgresql" in SERVICES["postgres"]["volumes"]


def test_api_and_worker_wait_for_the_migration_and_for_healthy_servers() -> None:
    for service in ("api", "worker"):
        needs = {name: need["condition"] for name, need in SERVICES[service]["depends_on"].items()}
        assert needs["migrate"] == "service_completed_successfully"
        assert needs["postgres"] == needs["seaweedfs"] == needs["minio"] == "service_healthy"
        assert needs["valkey"] == "service_started"
        assert SERVICES[service]["depends_on"]["minio"]["required"] is False
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_every_setting_in_container_files_exists() -> None:
    files = [path for folder in (DOCKER, ROOT / ".devcontainer") for path in folder.rglob("*")]
    used = {
        name
        for path in files
        if path.is_file() and path.name != ".env"
        for name in re.findall(rf"\b{PREFIX}([A-Z_]+)\b", path.read_text())
    }
    assert used
    assert used - {field.upper() for field in Settings.__struct_fields__} - {"CONFIG"} == set()


@pytest.mark.parametrize("service", OWN_SERVICES)
def test_the_settings_of_a_service_are_accepted(service: str) -> None:
    environment = final_stage().environment() | environment_of(service)
    settings = load_settings(environment)
    assert settings.http_host == "0.0.0.0"  # noqa: S104 - inside its container, or no port could be published
    assert settings.data_dir == "/data"
    assert settings.trusted_proxies == ("127.0.0.1",)
    assert settings.database_url == f"postgresql://chitram:{SECRET}@postgres:5432/chitram"
    assert stores_from_settings(settings, environment).primary.name == "main"


async def test_a_worker_is_healthy_once_it_has_reported_in(valkey_url: str) -> None:
    url = valkey_url.rpartition("/")[0] + "/9"
    check = SERVICES["worker"]["healthcheck"]["test"]
    assert check[:2] == ["CMD", "python"]

    async def exit_status() -> int:
        child = await asyncio.create_subprocess_exec(
            sys.executable, *check[2:], env=os.environ | {"CHITRAM_VALKEY_URL": url}
        )
        return await child.wait()

    client: Valkey = Valkey.from_url(url)
    tally, worker = Tally(), uuid4()
    try:
        before = await exit_status()
        await tally.tell(client, worker)
        assert (before, await exit_status()) == (1, 0)
        await tally.leave(client, worker)
        assert await exit_status() == 1
    finally:
        await client.flushdb()
        await client.aclose()


def test_make_env_writes_fresh_secrets_that_only_the_owner_can_read(tmp_path: Path) -> None:
    written = []
    for name in ("first", "second"):
        target = tmp_path / name
        subprocess.run([MAKE_ENV, target], check=True, capture_output=True)
        assert target.stat().st_mode & 0o777 == 0o600
        written.append(dict(line.split("=", 1) for line in target.read_text().splitlines() if "=" in line))
    assert [line for line in written[0] if not line.startswith("#")]
    for name, value in example().items():
        if value:
            assert written[0][name] == written[1][name] == value
        else:
            assert re.fullmatch("[0-9a-f]{48}", written[0][name])
            assert written[0][name] != written[1][name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_make_env_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("mine")
    done = subprocess.run([MAKE_ENV, tmp_path / "env"], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert (tmp_path / "env").read_text() == "mine"


def test_docker_compose_accepts_the_file(tmp_path: Path) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("docker compose 2 or later is not installed")
    subprocess.run([MAKE_ENV, tmp_path / "env"], check=True, capture_output=True)
    arguments = ["--file", str(COMPOSE), "--env-file", str(tmp_path / "env"), "--profile", "minio"]
    done = subprocess.run(
        [*command, *arguments, "config", "--format", "json"],
        check=False,
        capture_output=True,
        text=True,
        # Nothing of the caller's environment may fill a variable in.
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["services"].keys() == SERVICES.keys()


def compose_command() -> list[str] | None:
    """Find a docker compose that knows today's format; `config` needs no engine."""
    beside = Path(sys.executable).with_name("docker-compose")
    standalone = str(beside) if beside.exists() else shutil.which("docker-compose")
    for command in (["docker", "compose"], [standalone] if standalone else None):
        if command is None or shutil.which(command[0]) is None:
            continue
        asked = subprocess.run([*command, "version", "--short"], check=False, capture_output=True, text=True)
        version = re.match(r"v?(\d+)\.", asked.stdout)
        if asked.returncode == 0 and version and int(version[1]) >= 2:
            return command
    return None


def test_the_image_runs_the_console_script_as_a_fixed_ordinary_user() -> None:
    stage = final_stage()
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", stage.last("USER").rest)
    assert stage.last("ENTRYPOINT").rest == '["chitram"]'
    assert stage.last("CMD").rest == '["api"]'
    assert stage.last("STOPSIGNAL").rest == "SIGTERM"
    assert stage.last("VOLUME").words() == ["/data"]
    assert stage.last("HEALTHCHECK").rest.endswith('CMD ["chitram", "healthcheck"]')
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert "chitram" in scripts


def test_what_needs_root_comes_before_the_user_is_changed() -> None:
    names = [instruction.name for instruction in final_stage().instructions]
    assert {"RUN", "COPY", "ADD"}.isdisjoint(names[names.index("USER") :])


def test_the_last_stage_installs_nothing_and_has_no_installer() -> None:
    stage = final_stage()
    commands = " ".join(instruction.rest for instruction in stage.every("RUN"))
    assert re.search(r"\b(apt|apt-get|apk|gcc|g\+\+|make|curl|wget)\b|pip install", commands) is None
    assert "rm -rf" in commands
    assert "/usr/local/bin/pip*" in commands
    copied = [instruction.words() for instruction in stage.every("COPY")]
    assert copied == [["--from=builder", "/opt/chitram", "/opt/chitram"]]


def test_the_builder_installs_by_hash_into_an_environment_without_an_installer() -> None:
    builder, final = read_stages(DOCKER / "Dockerfile")
    assert builder.name == "builder"
    assert builder.base == final.base == "${PYTHON_IMAGE}"
    commands = " ".join(instruction.rest for instruction in builder.every("RUN"))
    assert "venv --without-pip /opt/chitram" in commands
    assert re.findall(r"install (--\S+) --only-binary=:all: -r (\S+)", commands) == [
        ("--require-hashes", "server.txt"),
        ("--require-hashes", "build-requirements.txt"),
    ]


def test_the_base_image_has_an_explicit_tag() -> None:
    [base] = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert re.fullmatch(r"python:3\.11-slim-[a-z]+", base)


def copied_sources() -> list[str]:
    builder = read_stages(DOCKER / "Dockerfile")[0]
    return [word for line in builder.every("COPY") for word in line.words()[:-1]]


@pytest.mark.parametrize("source", copied_sources())
def test_what_is_copied_exists_and_reaches_the_build(source: str) -> None:
    path = ROOT / source
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.suffix == ".py"]
    assert files
    held_back = [
        str(file.relative_to(ROOT))
        for file in files
        if not is_sent_to_the_build(str(file.relative_to(ROOT)), IGNORE)
    ]
    assert held_back == []


def test_everything_that_the_wheel_is_built_from_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        project["project"]["readme"],
        *project["project"]["license-files"],
        *wheel["packages"],
        *wheel["force-include"],
    }
    copied = copied_sources()
    assert [
        path for path in needed if not any((path + "/").startswith(source + "/") for source in copied)
    ] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "data/secrets",
        "docker/.env",
        "src/chitram/__pycache__/x.cpython-311.pyc",
        "tests/conftest.py",
    ],
)
def test_nothing_else_reaches_the_build(path: str) -> None:
    assert not is_sent_to_the_build(path, IGNORE)


def test_the_real_secrets_are_not_committed() -> None:
    assert ".env" in (DOCKER / ".gitignore").read_text().split()

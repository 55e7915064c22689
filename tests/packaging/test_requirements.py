from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "requirements"
BUILD = ROOT / "docker" / "build-requirements.txt"
FILES = [*sorted(FOLDER.glob("*.txt")), BUILD]

HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)")


class Pin(NamedTuple):
    name: str
    version: str


def read_pins(path: Path) -> dict[Pin, set[str]]:
    """Return each pin of a file with the SHA-256 of every file it may be installed from."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    pins = {}
    for entry in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not entry.strip():
            continue
        requirement = Requirement(entry.partition("--hash")[0].strip())
        [specifier] = requirement.specifier
        assert specifier.operator == "==", entry
        pins[Pin(requirement.name, specifier.version)] = set(HASH.findall(entry))
    return pins


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_requirement_is_pinned_with_hashes(path: Path) -> None:
    pins = read_pins(path)
    assert pins
    assert [pin for pin, hashes in pins.items() if not hashes] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_address_of_an_index_is_written_down(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert (
        re.search(r"^\s*(-i|-f|--index|--extra-index|--find-links|--trusted-host)", text, re.MULTILINE)
        is None
    )


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        (FOLDER / "server.txt", FOLDER / "run.txt"),
        (FOLDER / "run.txt", FOLDER / "dev.txt"),
        (BUILD, FOLDER / "run.txt"),
    ],
    ids=lambda path: path.name,
)
def test_each_set_of_pins_is_contained_in_the_next(smaller: Path, larger: Path) -> None:
    inner, outer = read_pins(smaller), read_pins(larger)
    assert inner.keys() - outer.keys() == set()
    assert [pin for pin, hashes in inner.items() if not hashes <= outer[pin]] == []


def test_the_pins_satisfy_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions: dict[str, list[str]] = {}
    for name, version in read_pins(FOLDER / "server.txt"):
        versions.setdefault(name, []).append(version)
    for line in project["dependencies"]:
        wanted = Requirement(line)
        assert versions.get(wanted.name), f"{wanted.name} has no pin: run `just pins`"
        assert all(version in wanted.specifier for version in versions[wanted.name]), line

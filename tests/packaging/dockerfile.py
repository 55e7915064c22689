"""Just enough reading of Dockerfiles and .dockerignore files to check ours without an engine."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """One instruction: its name in capitals and the rest of its line, continuations joined."""

    name: str
    rest: str

    def words(self) -> list[str]:
        """The arguments, whether written as a JSON array or as words."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


class Stage(NamedTuple):
    base: str
    name: str
    instructions: list[Instruction]

    def every(self, name: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.name == name]

    def last(self, name: str) -> Instruction:
        return self.every(name)[-1]

    def environment(self) -> dict[str, str]:
        pairs = (word.partition("=") for line in self.every("ENV") for word in line.words())
        return {name: value for name, _, value in pairs}


def read_stages(path: Path) -> list[Stage]:
    """Split a Dockerfile into its stages."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        if name.upper() == "FROM":
            base, _, alias = rest.partition(" AS ")
            stages.append(Stage(base, alias, []))
        elif name and stages:
            stages[-1].instructions.append(Instruction(name.upper(), re.sub(r"\s+", " ", rest.strip())))
    return stages


def is_sent_to_the_build(path: str, ignore_file: Path) -> bool:
    """Say whether a .dockerignore lets a path, relative to it, through: the last match decides."""
    sent = True
    for line in ignore_file.read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        exception = pattern.startswith("!")
        if _matches(path, pattern.removeprefix("!").strip("/")):
            sent = exception
    return sent


def _matches(path: str, pattern: str) -> bool:
    """Match a path or any folder above it."""
    parts = path.split("/")
    expression = _expression(pattern)
    return any(re.fullmatch(expression, "/".join(parts[:end])) for end in range(1, len(parts) + 1))


def _expression(pattern: str) -> str:
    translated = ""
    for token in re.findall(r"\*\*/|\*\*|\*|\?|\[[^]]+\]|.", pattern):
        match token:
            case "**/":
                translated += "(?:[^/]+/)*"
            case "**":
                translated += ".*"
            case "*":
                translated += "[^/]*"
            case "?":
                translated += "[^/]"
            case _:
                translated += token if len(token) > 1 else re.escape(token)
    return translated

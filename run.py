#!/usr/bin/env python3
"""Prepare this checkout's own environment, then run a recipe of the justfile in it.

    python3 run.py up      # everything that is needed, then `just up`
    python3 run.py test    # everything that is needed, then `just test`

Needs Python 3.11 or later and pip, nothing else: the environment is a `.venv` beside this file,
filled from the hashed pins in config/requirements, so a Python that its distribution manages is
left alone. A second run finds it ready and starts at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
# Recipes that need no development tool get by on the smaller set, and so start sooner.
RUN_RECIPES = frozenset({"up", "api", "worker", "admin", "migrate", "_run-env"})


def main() -> int:
    """Return the exit status; with a recipe to run, this process becomes `just`."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what tells an older Python so
        print(f"Chitram needs Python 3.11 or later; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    arguments = sys.argv[1:] or ["up"]
    pins = "run" if arguments[0] in RUN_RECIPES else "dev"
    try:
        prepare(pins)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"Could not prepare {VENV}: {error}", file=sys.stderr)
        return 1
    if arguments[0] in {"_run-env", "_dev-env"}:
        return 0
    just = str(VENV / "bin" / "just")
    os.chdir(ROOT)
    # The recipes come back here; they have to do so with this Python, whatever `python3` is.
    os.environ.setdefault("PYTHON", sys.executable)
    return os.execv(just, [just, *arguments])  # noqa: S606 - a path of our own environment


def prepare(pins: str) -> None:
    """Make `.venv` match `config/requirements/{pins}.txt`; nothing to do when it already does."""
    VENV.mkdir(exist_ok=True)
    with exclusive(VENV / ".prepare.lock"):
        wanted = fingerprint(pins)
        stamp = VENV / ".prepared"
        recorded = stamp.read_text().split() if stamp.exists() else []
        # The development pins contain the smaller set.
        if wanted in recorded or (pins == "run" and fingerprint("dev") in recorded):
            return
        stamp.unlink(missing_ok=True)
        print(f"Preparing {VENV} ({pins} requirements) ...", file=sys.stderr, flush=True)
        if not (VENV / "bin" / "python").exists():
            # Debian packages the venv module without ensurepip: the caller's pip fills it instead.
            venv.create(VENV, with_pip=False, symlinks=True)
        pip("install", "--require-hashes", "-r", str(ROOT / "config" / "requirements" / f"{pins}.txt"))
        pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        stamp.write_text(wanted)


def pip(*arguments: str) -> None:
    """Run the pip of the calling Python on `.venv`."""
    command = [sys.executable, "-m", "pip", "--python", str(VENV / "bin" / "python")]
    # No user-wide "install to ~/.local" or "only inside a virtualenv" setting may redirect us.
    environment = os.environ | {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    subprocess.run(  # noqa: S603 - fixed arguments
        [*command, *arguments, "--quiet", "--disable-pip-version-check", "--no-input"],
        check=True,
        env=environment,
    )


def fingerprint(pins: str) -> str:
    """Digest of everything that decides what `.venv` has to contain."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {pins} {ROOT}".encode())
    for path in (ROOT / "config" / "requirements" / f"{pins}.txt", ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a file lock, so that two commands at once do not fill the same environment."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    raise SystemExit(main())

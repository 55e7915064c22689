from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from benchmarks.model import Sample
from benchmarks.peers.looping import Loops, loops
from chitram.images.domain.rendition import THUMBNAIL_SIDES
from tests.support.photos import jpeg


def _photo(folder: Path) -> Path:
    path = folder / "photo.jpg"
    path.write_bytes(jpeg(800, 600))
    return path


async def test_loops_check_and_store_until_their_time_is_over_and_clear_up(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    async with loops("benchmarks.peers.check_and_store", 2, folder, _photo(tmp_path)) as running:
        done = await running.run(0.1)
        again = await running.run(0.1)
        left = [path for path in folder.rglob("*") if path.is_file()]
    assert done.rate > 0
    assert again.rate > 0
    assert done.cpu_ms
    assert left == []
    assert not [pid for pid in running.pids if psutil.pid_exists(pid)]


async def test_a_loop_of_renderings_makes_all_thumbnails(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    async with loops("benchmarks.peers.rendering", 1, folder, _photo(tmp_path)) as running:
        assert (await running.run(0.05)).rate > 0
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {
        kind.value for kind in THUMBNAIL_SIDES
    }


@pytest.mark.parametrize("fastest", [1, 2, 3])
async def test_as_many_loops_work_as_are_fastest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fastest: int
) -> None:
    async def run(running: Loops, _: float) -> Sample:
        return Sample(rate=10 - abs(len(running.pids) - fastest))

    monkeypatch.setattr(Loops, "run", run)
    async with loops("benchmarks.peers.rendering", 3, tmp_path, _photo(tmp_path)) as running:
        await running.keep_fastest((1, 2, 3), 1)
        assert len(running.pids) == fastest


async def test_a_loop_that_fails_fails_the_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a loop ended with status"):
        async with loops("benchmarks.peers.rendering", 1, tmp_path / "missing", _photo(tmp_path)):
            pass

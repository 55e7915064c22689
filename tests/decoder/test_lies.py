"""A decoder that a hostile image has taken over cannot make the server store anything else."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from structlog.testing import capture_logs

from chitram.images.adapters.children import process
from chitram.images.adapters.children.frames import frame
from chitram.images.adapters.children.process import ChildNotStarted
from chitram.images.adapters.decoder import child
from chitram.images.adapters.decoder.pool import DecoderPool
from chitram.images.adapters.decoder.protocol import MAX_FRAME_BYTES, Accepted, Refused, Terms
from chitram.images.domain.errors import CorruptImage
from chitram.images.domain.image import ImageFormat
from tests.decoder.conftest import NewPool, Upload
from tests.support import photos


def _accepted(**changes: Any) -> bytes:
    whole = Accepted(format=ImageFormat.JPEG, width=160, height=120, pieces=[(0, 1000)])
    return frame(msgspec.structs.replace(whole, **changes))


_LIES = {
    "a slice beyond the end": _accepted(pieces=[(0, 1 << 30)]),
    "a slice from beyond the end": _accepted(pieces=[(1 << 39, 1)]),
    "slices that overlap": _accepted(pieces=[(0, 1000), (999, 10)]),
    "slices in another order": _accepted(pieces=[(500, 100), (0, 100)]),
    "an empty slice": _accepted(pieces=[(0, 0)]),
    "a negative offset": _accepted(pieces=[(-5, 10)]),
    "nothing to store": _accepted(pieces=[]),
    "bytes of its own": _accepted(pieces=[photos.HTML * 100]),
    "more pieces than there may be": _accepted(pieces=[(each, 1) for each in range(30_000)]),
    "more pixels than there may be": _accepted(width=100_000, height=100_000),
    "no width": _accepted(width=0),
    "a format that does not exist": _accepted(format="gif"),
    "a format that is not allowed": _accepted(format=ImageFormat.PNG),
    "a longer message than there may be": (MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"x",
    "an empty message": bytes(4),
    "no message at all": b"\0\0\0\x05hello",
    "an error of its own": frame(Refused(code="FORBIDDEN", message="x")),  # type: ignore[arg-type] # the lie
    "an endless error": frame(Refused(code="CORRUPT_IMAGE", message="x" * 1000)),
}


async def _lying(
    new_pool: NewPool, monkeypatch: pytest.MonkeyPatch, directory: Path, said: bytes
) -> tuple[DecoderPool, int]:
    """A pool whose first decoder says `said`, and that decoder's process id."""
    (directory / "said").write_bytes(said)
    program = Path(__file__).with_name("liar.py")
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-P", program, directory / "said"))
    pool = await new_pool(allowed_formats=("jpeg",))
    monkeypatch.undo()
    return pool, pool._children.idle[0].pid


@pytest.mark.parametrize("lie", _LIES.values(), ids=_LIES.keys())
async def test_a_lie_is_no_answer_and_ends_the_decoder(
    new_pool: NewPool, upload: Upload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lie: bytes
) -> None:
    pool, pid = await _lying(new_pool, monkeypatch, tmp_path, lie)
    with capture_logs() as complaints, pytest.raises(CorruptImage):
        await pool.inspect(upload(photos.jpeg()))
    assert [each["event"] for each in complaints] == ["decoder_answer_refused"]
    assert not psutil.pid_exists(pid)
    assert (await pool.inspect(upload(photos.jpeg()))).width == 160


async def test_an_answer_for_an_image_yet_to_come_is_not_heard(
    new_pool: NewPool, upload: Upload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pool, pid = await _lying(new_pool, monkeypatch, tmp_path, _accepted() + _accepted(width=7))
    assert (await pool.inspect(upload(photos.jpeg()))).width == 160
    assert (await pool.inspect(upload(photos.jpeg(200, 100)))).width == 200
    assert not psutil.pid_exists(pid)


async def test_the_digest_is_that_of_the_bytes_whatever_a_decoder_says(
    new_pool: NewPool, upload: Upload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half of the bytes, called whole, get the digest of that half and meet no other image."""
    pool, _ = await _lying(new_pool, monkeypatch, tmp_path, _accepted())
    data = photos.jpeg()
    assert (await pool.inspect(upload(data))).sha256 == upload(data[:1000]).sha256


async def test_an_error_that_nobody_foresaw_is_for_the_log_alone(
    new_pool: NewPool, upload: Upload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = frame(Refused(code="CORRUPT_IMAGE", message="No.", unexpected="KeyError('secret')"))
    pool, _ = await _lying(new_pool, monkeypatch, tmp_path, said)
    with capture_logs() as complaints, pytest.raises(CorruptImage) as refused:
        await pool.inspect(upload(photos.jpeg()))
    assert (refused.value.message, refused.value.details) == ("No.", {})
    assert [each["error"] for each in complaints] == ["KeyError('secret')"]


def test_a_decoder_tells_an_error_that_nobody_foresaw(monkeypatch: pytest.MonkeyPatch, terms: Terms) -> None:
    def stumble(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(child, "examine", stumble)
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"x")
        answer = child.answer_for(file.fileno(), 1, terms)
    assert answer == Refused(
        code="CORRUPT_IMAGE", message=CorruptImage.default_message, unexpected="KeyError('surprise')"
    )


async def test_a_decoder_that_greets_wrongly_is_not_used(
    new_pool: NewPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import socket; s = socket.socket(fileno=0); s.sendall(b'\\0\\0\\0\\2hi'); s.recv(1 << 20)"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-P", "-c", program))
    with pytest.raises(ChildNotStarted, match="did not say that it is ready"):
        await new_pool()

"""Bodies and files over real connections, with clients that do not behave."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import socket
import struct
import time

import pytest

from tests.http.wire import LIMIT, SECONDS, SIZES, Server, chunked, code, get, post, response

OVERSIZE = 12_000_000
FORM = 'Content-Type: multipart/form-data; boundary="b"'
FORM_HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
FORM_END = b"\r\n--b--\r\n"
# More than stays in memory.
HALF = bytes(LIMIT // 2)


@pytest.mark.parametrize("size", [1, 70_000, LIMIT])
def test_a_body_arrives_whole(server: Server, size: int) -> None:
    body = os.urandom(size)
    expected = {"size": size, "sha256": hashlib.sha256(body).hexdigest()}
    for head, data in [
        (post("/raw", f"Content-Length: {size}"), body),
        (post("/raw", "Transfer-Encoding: chunked"), chunked(body) + chunked(b"")),
    ]:
        with server.connect() as connection:
            connection.sendall(head + data)
            assert response(connection) == (201, expected)
    form = FORM_HEAD + body + FORM_END
    with server.connect() as connection:
        connection.sendall(post("/form", FORM, f"Content-Length: {len(form)}") + form)
        assert response(connection) == (201, {**expected, "fields": {}})
    assert server.open_files() == {"spools": 0, "objects": 0}


@pytest.mark.parametrize(
    "head",
    [
        post("/raw", "Content-Length: 1000"),
        post("/raw", "Transfer-Encoding: chunked"),
        post("/form", FORM, "Content-Length: 1000"),
    ],
    ids=["announced", "chunked", "form"],
)
def test_a_body_that_comes_byte_by_byte_is_refused_at_the_deadline(server: Server, head: bytes) -> None:
    body = FORM_HEAD if b"/form" in head else b"x" * 1000
    started = time.monotonic()
    with server.connect() as connection:
        connection.sendall(head)
        connection.settimeout(0.05)
        for byte in body:
            connection.sendall(chunked(bytes([byte])) if b"chunked" in head else bytes([byte]))
            try:
                if connection.recv(1, socket.MSG_PEEK):
                    break
            except TimeoutError:
                continue
        connection.settimeout(5)
        assert code(connection) == (408, "UPLOAD_TIMEOUT")
        assert SECONDS <= time.monotonic() - started < SECONDS + 3
    assert server.open_files()["spools"] == 0


@pytest.mark.parametrize("path", ["/raw", "/form"])
def test_an_announced_oversize_is_refused_before_any_of_it_is_sent(server: Server, path: str) -> None:
    with server.connect() as connection:
        connection.sendall(post(path, FORM, f"Content-Length: {OVERSIZE}"))
        assert code(connection) == (413, "FILE_TOO_LARGE")


@pytest.mark.parametrize("coding", [f"Content-Length: {OVERSIZE}", "Transfer-Encoding: chunked"])
def test_a_client_that_sends_everything_first_still_gets_its_refusal(server: Server, coding: str) -> None:
    piece = b"x" * 60_000
    data = chunked(piece) if "chunked" in coding else piece
    with server.connect() as connection:
        connection.sendall(post("/raw", coding))
        for _ in range(OVERSIZE // len(piece)):
            connection.sendall(data)
        assert code(connection) == (413, "FILE_TOO_LARGE")
        if "chunked" in coding:
            connection.sendall(chunked(b""))
        # All of it was read, so that the connection can go on.
        connection.sendall(get("/open"))
        assert response(connection)[0] == 200


def test_a_client_that_waits_for_a_go_ahead_is_refused_at_once(server: Server) -> None:
    started = time.monotonic()
    with server.connect() as connection:
        connection.sendall(post("/raw", f"Content-Length: {OVERSIZE}", "Expect: 100-continue"))
        assert code(connection) == (413, "FILE_TOO_LARGE")
        assert connection.recv(1) == b""
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (post("/raw", f"Content-Length: {LIMIT}"), HALF),
        (post("/raw", "Transfer-Encoding: chunked"), chunked(HALF)),
        (post("/form", FORM, f"Content-Length: {LIMIT}"), FORM_HEAD + HALF),
    ],
    ids=["announced", "chunked", "form"],
)
@pytest.mark.parametrize("abruptly", [False, True])
def test_a_client_that_leaves_in_the_middle_leaves_nothing_open(
    server: Server, head: bytes, body: bytes, *, abruptly: bool
) -> None:
    connection = server.connect()
    connection.sendall(head + body)
    server.wait_until_open(spools=1)
    if abruptly:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert server.wait_until_open(spools=0) < SECONDS


def test_a_body_that_ends_too_early_is_told_to_a_client_that_still_listens(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(post("/raw", "Content-Length: 1000") + b"x" * 500)
        connection.shutdown(socket.SHUT_WR)
        assert code(connection) == (400, "INVALID_REQUEST")


@pytest.mark.parametrize("name", SIZES)
def test_a_file_is_sent_whole_with_every_header(server: Server, name: str) -> None:
    client = server.client()
    client.request("GET", f"/objects/{name}")
    answer = client.getresponse()
    assert answer.status == 200
    assert answer.read() == (server.directory / "objects" / name).read_bytes()
    assert answer.headers["content-length"] == str(SIZES[name])
    assert answer.headers["transfer-encoding"] is None
    assert answer.headers["content-disposition"].isascii()
    client.request("HEAD", f"/objects/{name}")
    head = client.getresponse()
    assert head.read() == b""
    assert dict(head.headers) == {**answer.headers, "date": head.headers["date"]}
    client.close()
    assert server.wait_until_open(objects=0) < 2


@pytest.mark.parametrize("name", SIZES)
def test_conditions_and_ranges_work_on_one_connection(server: Server, name: str) -> None:
    content = (server.directory / "objects" / name).read_bytes()
    size = len(content)
    client = server.client()

    def ask(**headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        client.request(
            "GET", f"/objects/{name}", headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        answer = client.getresponse()
        return answer, answer.read()

    answer, body = ask(if_none_match='"abc"')
    assert (answer.status, body) == (304, b"")
    assert answer.headers["etag"] == '"abc"'
    assert answer.headers["content-length"] is None

    answer, body = ask(range="bytes=10-")
    assert (answer.status, body) == (206, content[10:])
    assert answer.headers["content-range"] == f"bytes 10-{size - 1}/{size}"

    answer, body = ask(range="bytes=0-9,-10")
    assert answer.status == 206
    assert content[:10] in body
    assert content[-10:] in body

    answer, body = ask(range="bytes=0-9", if_range='"other"')
    assert (answer.status, body) == (200, content)

    answer, body = ask(range=f"bytes={size}-")
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")

    answer, body = ask(if_match='"other"')
    assert answer.status == 412
    client.close()


def test_a_reader_that_stalls_is_left_at_the_deadline(server: Server) -> None:
    with server.connect(receive_buffer=4096) as connection:
        connection.sendall(get("/objects/large?seconds=0.5"))
        server.wait_until_open(objects=1)
        server.wait_until_open(objects=0)
        received = 0
        while piece := connection.recv(1 << 20):
            received += len(piece)
        # The connection ends, so that nobody takes the part for the whole.
        assert received < SIZES["large"]


def test_readers_that_stall_hold_less_than_a_tenth_of_what_they_asked_for(server: Server) -> None:
    readers = 30
    with contextlib.ExitStack() as stalled:
        server.asked("/memory")
        before = server.memory()
        for _ in range(readers):
            connection = stalled.enter_context(server.connect(receive_buffer=4096))
            connection.sendall(get("/objects/large?seconds=30"))
            assert connection.recv(1, socket.MSG_PEEK)
        server.wait_until_open(objects=readers)
        assert server.memory() - before < readers * SIZES["large"] / 10
    server.wait_until_open(objects=0)


def test_a_reader_that_leaves_is_noticed_long_before_the_deadline(server: Server) -> None:
    connection = server.connect(receive_buffer=4096)
    connection.sendall(get("/objects/large?seconds=30"))
    server.wait_until_open(objects=1)
    connection.close()
    assert server.wait_until_open(objects=0) < 5


def test_an_object_that_breaks_breaks_the_connection(server: Server) -> None:
    client = server.client()
    client.request("GET", "/objects/large?fail_from=8000000")
    answer = client.getresponse()
    assert answer.status == 200
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    client.close()
    assert server.open_files()["objects"] == 0


def test_an_object_that_breaks_at_once_is_told(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(get("/objects/large?fail_from=1"))
        assert code(connection) == (503, "STORAGE_UNAVAILABLE")

"""The child's side: take terms and jobs from the socket that is its standard input."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import TypeVar

import msgspec

from chitram.images.adapters.children.confine import confine, limit_cpu
from chitram.images.adapters.children.frames import LENGTH_BYTES, MAX_JOB_BYTES, Limits, Ready, frame

TermsT = TypeVar("TermsT", bound=Limits)
JobT = TypeVar("JobT", bound=msgspec.Struct)


def serve(
    terms_type: type[TermsT],
    job_type: type[JobT],
    warm_up: Callable[[TermsT], None],
    answer: Callable[[int, JobT, TermsT], msgspec.Struct],
) -> None:
    """Answer jobs until the pool closes the socket.

    `warm_up` brings in everything that libraries load late: later on no file can be opened.
    `answer` gets a descriptor, open for reading only, that is closed after it.

    A child outlives the signals of a shutdown: what it works on may be finished.
    """
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    with socket.socket(fileno=0) as connection:
        terms = msgspec.msgpack.decode(_receive(connection)[0], type=terms_type)
        warm_up(terms)
        confine(terms.memory_bytes, terms.niceness)
        connection.sendall(frame(Ready()))
        while True:
            body, descriptors = _receive(connection)
            if not body:
                return
            job = msgspec.msgpack.decode(body, type=job_type)
            limit_cpu(terms.cpu_seconds)
            try:
                answered = frame(answer(descriptors[0], job, terms))
            finally:
                os.close(descriptors[0])
            connection.sendall(answered)
            # Perhaps megabytes, which need not wait for the next job.
            del answered


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Read a message, which the pool always sends in one piece; empty when the pool has gone."""
    data, descriptors, _, _ = socket.recv_fds(connection, MAX_JOB_BYTES, 1)
    return data[LENGTH_BYTES:], descriptors

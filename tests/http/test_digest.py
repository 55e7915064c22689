from __future__ import annotations

import base64
import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chitram.kernel.errors import InvalidRequest
from chitram.platform.http.digest import parse_repr_digest

DIGEST = hashlib.sha256(b"x").digest()
SHA256 = f"sha-256=:{base64.b64encode(DIGEST).decode()}:"
SHA512 = f"sha-512=:{base64.b64encode(hashlib.sha512(b'x').digest()).decode()}:"


@pytest.mark.parametrize(
    "value",
    [
        SHA256,
        f"  {SHA256}  ",
        f"{SHA512}, {SHA256}",
        f"{SHA512},{SHA256}",
        f"{SHA512}\t,\t{SHA256}",
        f'{SHA256};q=0.5;note="a, b";x',
        f"{SHA256}; q",
        f"unixsum=30637, flag, other=?0, token=a/b, {SHA256}",
        f"sha-256=:YQ==:, {SHA256}",
    ],
)
def test_the_sha_256_of_a_digest_field_is_found(value: str) -> None:
    assert parse_repr_digest(value) == DIGEST


@pytest.mark.parametrize("value", [None, "", "   ", SHA512, "md5=:YQ==:"])
def test_there_is_no_digest_where_none_is_given(value: str | None) -> None:
    assert parse_repr_digest(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "sha-256",
        "sha-256=",
        "sha-256=abc",
        "sha-256=1",
        "sha-256=::",
        "sha-256=:YQ==:",
        SHA256.replace("=:", ":"),
        SHA256[:-1],
        SHA256.replace("=:", "=:!"),
        SHA256[:-2] + ":",
        SHA256[:-1] + "=:",
        SHA256[:-1] + "AAAA:",
        SHA256.upper(),
        f"{SHA256},",
        f",{SHA256}",
        f"{SHA256} {SHA512}",
        f"{SHA256};",
        f'{SHA512}, nonsense="',
        "sha-256=(:YQ==:)",
        "\x00",
        "é",
    ],
)
def test_a_malformed_digest_field_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_repr_digest(value)


@given(st.one_of(st.text(), st.text('sha-256=:;, "?().AQ', max_size=40).map(lambda tail: SHA256 + tail)))
def test_no_text_is_more_than_refused(value: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert parse_repr_digest(value) in {None, DIGEST}

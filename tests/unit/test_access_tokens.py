"""Access tokens: what is believed, and what is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chitram.accounts.adapters.access_tokens import JwtAccessTokens
from chitram.accounts.domain.errors import InvalidToken, TokenExpired
from chitram.platform.signing import derived_key
from tests.support.fakes import FakeClock

OLD, NEW = "an-old-key-of-at-least-32-characters", "a-new-key-of-at-least-32-characters!"
LIFE = timedelta(minutes=15)
USER, SESSION = uuid4(), uuid4()
KEY = derived_key(OLD, "access token")


def tokens(*keys: str, **ago: float) -> JwtAccessTokens:
    """Tokens under these keys, made by a clock that is so far behind."""
    clock = FakeClock()
    clock.time -= timedelta(**ago)
    return JwtAccessTokens(keys or (OLD,), LIFE, clock)


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    head, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(text + "==")) for text in (head, claims))


def signed(head: dict[str, Any], claims: dict[str, Any], key: bytes = KEY) -> str:
    """Any token, signed rightly, whatever it says."""
    text = f"{part(head)}.{part(claims)}"
    mac = hmac.digest(key, text.encode(), hashlib.sha256)
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def changed(head: dict[str, Any] | None = None, **claims: Any) -> str:
    """A good token but for what is given; None leaves a claim out."""
    good_head, good_claims = parts_of(tokens().issue(USER, SESSION)[0])
    kept = {name: value for name, value in (good_claims | claims).items() if value is not None}
    return signed(good_head | (head or {}), kept)


def test_what_was_issued_is_read() -> None:
    ours = tokens()
    token, expires_in = ours.issue(USER, SESSION)
    claims = ours.read(token)
    assert (claims.user_id, claims.session_id, expires_in) == (USER, SESSION, 900)
    assert claims.expires_at - claims.issued_at == LIFE
    assert ours.read(ours.issue(USER, SESSION)[0]).token_id != claims.token_id


def test_a_token_says_no_more_than_it_has_to() -> None:
    head, claims = parts_of(tokens().issue(USER, SESSION)[0])
    assert set(head) == {"alg", "typ", "kid"}
    assert (head["alg"], head["kid"]) == ("HS256", hashlib.sha256(KEY).hexdigest()[:16])
    assert set(claims) == {"iss", "aud", "sub", "sid", "iat", "exp", "jti"}
    assert read(changed()) is None


def read(token: str, ours: JwtAccessTokens | None = None) -> str | None:
    """The code of the refusal of a token; None when it is good."""
    try:
        (ours or tokens()).read(token)
    except (InvalidToken, TokenExpired) as error:
        return error.code
    return None


def test_a_token_is_good_for_its_life_and_ten_seconds() -> None:
    assert read(tokens(minutes=14, seconds=59).issue(USER, SESSION)[0]) is None
    assert read(tokens(minutes=15, seconds=5).issue(USER, SESSION)[0]) is None
    assert read(tokens(minutes=15, seconds=12).issue(USER, SESSION)[0]) == "TOKEN_EXPIRED"
    assert read(tokens(days=10_000).issue(USER, SESSION)[0]) == "TOKEN_EXPIRED"


def test_a_token_of_a_server_whose_clock_is_ahead_is_good_up_to_ten_seconds() -> None:
    assert read(tokens(seconds=-5).issue(USER, SESSION)[0]) is None
    assert read(tokens(seconds=-15).issue(USER, SESSION)[0]) == "INVALID_TOKEN"


def test_keys_rotate() -> None:
    before, during, after = tokens(OLD), tokens(NEW, OLD), tokens(NEW)
    old, new = before.issue(USER, SESSION)[0], during.issue(USER, SESSION)[0]
    assert read(old, during) is None
    assert read(new, during) is None
    assert read(new, after) is None
    assert read(new, before) == "INVALID_TOKEN"
    assert read(old, after) == "INVALID_TOKEN"
    # Also when its time is over: what nobody of ours has signed was never good.
    assert read(tokens(OLD, days=1).issue(USER, SESSION)[0], after) == "INVALID_TOKEN"


def test_there_has_to_be_a_key() -> None:
    with pytest.raises(ValueError, match="no key"):
        JwtAccessTokens((), LIFE, FakeClock())


WRONG_HEADS: dict[str, dict[str, Any]] = {
    "none": {"alg": "none"},
    "none-in-capitals": {"alg": "NONE"},
    "another-hmac": {"alg": "HS512"},
    "asymmetric": {"alg": "RS256"},
    "algorithm-of-no-text": {"alg": 1},
    "unknown-key": {"kid": "0" * 16},
    "no-key": {"kid": None},
    "key-of-no-text": {"kid": ["x"]},
    "path-as-key": {"kid": "../../dev/null"},
    "critical-extension": {"crit": ["exp"], "exp": 1},
}


@pytest.mark.parametrize("head", WRONG_HEADS.values(), ids=WRONG_HEADS)
def test_a_head_that_is_not_ours_is_refused(head: dict[str, Any]) -> None:
    assert read(changed(head)) == "INVALID_TOKEN"


def test_no_signature_is_refused() -> None:
    head, claims, _ = tokens().issue(USER, SESSION)[0].split(".")
    assert read(f"{head}.{claims}.") == "INVALID_TOKEN"
    good_head, _ = parts_of(f"{head}.{claims}.x")
    assert read(f"{part(good_head | {'alg': 'none'})}.{claims}.") == "INVALID_TOKEN"


def test_a_signature_of_another_purpose_or_of_the_bare_secret_is_refused() -> None:
    head, claims = parts_of(tokens().issue(USER, SESSION)[0])
    for key in (OLD.encode(), derived_key(OLD, "upload address"), hashlib.sha256(KEY).digest(), b""):
        assert read(signed(head, claims, key)) == "INVALID_TOKEN"
    assert read(signed(head, claims, KEY)) is None


WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "another-issuer": {"iss": "somebody"},
    "another-audience": {"aud": "another"},
    "no-time-of-issue": {"iat": "now"},
    "no-time-of-end": {"exp": "never"},
    "user-that-is-no-id": {"sub": "admin"},
    "user-that-is-no-text": {"sub": 1},
    "session-that-is-no-id": {"sid": ""},
    "not-yet": {"nbf": 2**40},
    **{f"no-{name}": {name: None} for name in ("iss", "aud", "sub", "sid", "iat", "exp", "jti")},
}


@pytest.mark.parametrize("claims", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS)
def test_claims_that_are_not_ours_are_refused_although_they_are_signed(claims: dict[str, Any]) -> None:
    assert read(changed(**claims)) == "INVALID_TOKEN"


NO_TOKENS = {
    "empty": "",
    "dots": "..",
    "one-part": "abc",
    "five-parts": "a.b.c.d.e",
    "no-ascii": "é.é.é",
    "surrogate": "\ud800.\ud800.\ud800",
    "null": "\0.\0.\0",
    "deep": base64.urlsafe_b64encode(b"[" * 1400).decode() + ".e30.e30",
    "number-of-many-digits": base64.urlsafe_b64encode(b'{"a":' + b"9" * 1400 + b"}").decode() + ".e30.e30",
    "long": "a" * 2049,
    "very-long": "a" * 10_000_000,
}


@pytest.mark.parametrize("token", NO_TOKENS.values(), ids=NO_TOKENS)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert read(token) == "INVALID_TOKEN"


@given(st.text(max_size=200) | st.lists(st.binary(max_size=60), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_nothing_else_comes_of_any_text(text: str | list[bytes]) -> None:
    token = (
        text if isinstance(text, str) else ".".join(base64.urlsafe_b64encode(each).decode() for each in text)
    )
    assert read(token) == "INVALID_TOKEN"


def test_any_changed_character_is_refused() -> None:
    token = tokens().issue(USER, SESSION)[0]
    ours = tokens()
    for place in range(len(token)):
        other = "A" if token[place] != "A" else "B"
        # The last character of the signature holds two bits that count for nothing.
        if place < len(token) - 1:
            assert read(token[:place] + other + token[place + 1 :], ours) == "INVALID_TOKEN"

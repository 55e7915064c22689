"""Signatures on what this server hands out and has to know again: HMAC-SHA-256, keys that rotate."""

from __future__ import annotations

import base64
import hashlib
import hmac

# Names this layout of keys and messages: another one gets another name, so neither takes the other's.
_VERSION = b"chitram-signature-1"


class Signer:
    """Signs and verifies lists of text fields for one purpose.

    The first of `keys` signs and all verify, so a new one goes first and the old one goes once
    nothing that it signed is in use. What is signed for one purpose is worth nothing for another.
    """

    def __init__(self, keys: tuple[str, ...], purpose: str) -> None:
        if not keys:
            raise ValueError("there is no key to sign with")
        self._keys = [derived_key(key, purpose) for key in keys]

    def sign(self, *fields: str) -> str:
        """Return the signature of `fields`: 43 characters of base64url."""
        return _text(_mac(self._keys[0], fields))

    def verify(self, signature: str, *fields: str) -> bool:
        """Say whether `signature` is that of `fields`, in a time that tells nothing of it."""
        given = signature.encode("utf-8", "surrogatepass")
        right = [hmac.compare_digest(_text(_mac(key, fields)).encode(), given) for key in self._keys]
        return any(right)


def derived_key(key: str, purpose: str) -> bytes:
    """Derive from a secret the key of one purpose: 32 bytes that tell nothing of the secret or another."""
    return hmac.digest(key.encode("utf-8", "surrogatepass"), _message((purpose,)), hashlib.sha256)


def _mac(key: bytes, fields: tuple[str, ...]) -> bytes:
    return hmac.digest(key, _message(fields), hashlib.sha256)


def _message(fields: tuple[str, ...]) -> bytes:
    """Write fields so that no two lists come out alike: each follows its own length."""
    encoded = (field.encode("utf-8", "surrogatepass") for field in fields)
    return _VERSION + b"".join(b"%d:%b" % (len(field), field) for field in encoded)


def _text(mac: bytes) -> str:
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()

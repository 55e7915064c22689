"""Answers that only whoever has the idempotency key can read."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chitram.images.domain.idempotency import IdempotencyKey

_PURPOSE = b"chitram idempotent answer 1"
_KEY_BYTES = 32
_NONCE_BYTES = 12  # what NIST SP 800-38D recommends for AES-GCM


class AesGcmSealer:
    """AES-256-GCM under a key made by HKDF-SHA-256 from the text of the idempotency key."""

    def seal(self, answer: bytes, key: IdempotencyKey) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + _cipher(key).encrypt(nonce, answer, None)

    def open(self, sealed: bytes, key: IdempotencyKey) -> bytes:
        return _cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)


def _cipher(key: IdempotencyKey) -> AESGCM:
    # The hash names principal and key, so that no two of them share a cipher.
    derived = HKDF(SHA256(), _KEY_BYTES, salt=key.hash, info=_PURPOSE).derive(key.text.encode())
    return AESGCM(derived)

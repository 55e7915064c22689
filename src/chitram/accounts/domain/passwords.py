"""Which passwords are good enough."""

from __future__ import annotations

import unicodedata
from collections.abc import Container

from chitram.accounts.domain.errors import WeakPassword
from chitram.accounts.domain.user import Email

LEAST_CHARACTERS = 8
# Enough for any passphrase; what is hashed has to end somewhere (NIST SP 800-63B-4 asks for 64).
MOST_CHARACTERS = 256
# No character of NFC is written with more than four, so nothing longer can be a password.
_LONGEST_SPELLING = 4 * MOST_CHARACTERS


def prepared(password: str) -> str:
    """The one spelling of a password: keyboards write accents in two ways (RFC 8265, OpaqueString).

    What is too long for any password is cut, and still too long.
    """
    # A long run of combining marks takes quadratic time to normalise.
    return unicodedata.normalize("NFC", password[: _LONGEST_SPELLING + 1])


def check_new_password(password: str, email: Email, common: Container[str]) -> None:
    """Raises `WeakPassword` with the reason.

    Args:
        password: as `prepared` spells it.
        email: whose password it is to be.
        common: what is tried first, in small letters.
    """
    folded = password.casefold()
    if len(password) < LEAST_CHARACTERS:
        raise WeakPassword(
            "too_short",
            f"The password needs at least {LEAST_CHARACTERS} characters.",
            min_characters=LEAST_CHARACTERS,
        )
    if len(password) > MOST_CHARACTERS:
        raise WeakPassword(
            "too_long",
            f"The password may have at most {MOST_CHARACTERS} characters.",
            max_characters=MOST_CHARACTERS,
        )
    if folded in {email.key, email.key.partition("@")[0]}:
        raise WeakPassword("same_as_email", "The password may not be the e-mail address.")
    if folded in common:
        raise WeakPassword("common", "This password is among those that are tried first.")

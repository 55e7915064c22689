"""E-mail addresses as people type them."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email

from chitram.accounts.domain.user import Email
from chitram.kernel.errors import InvalidRequest

# RFC 5321, section 4.5.3.1.3, as clarified by erratum 1690 of RFC 3696.
_MOST_CHARACTERS = 254
# What is wrong may list every character of it.
_TOLD_CHARACTERS = 200


def read_email(text: str) -> Email:
    """Normalise an address; raises `InvalidRequest`. Nobody is asked whether it exists."""
    # What surrounds an address was not meant: it comes from forms and command lines.
    address = text[: 2 * _MOST_CHARACTERS].strip()
    try:
        if len(text) > 2 * _MOST_CHARACTERS:
            raise EmailNotValidError("The email address is too long.")
        return Email.of(validate_email(address, check_deliverability=False).normalized)
    except EmailNotValidError as error:
        raise InvalidRequest(
            f"The e-mail address is not valid: {error}", details={"field": "email"}
        ) from None

"""Every refusal that signing in and being known can end in."""

from __future__ import annotations

from chitram.kernel.errors import Category, ChitramError


class NotAuthenticated(ChitramError):
    """Only somebody who is signed in may do this."""

    code = "NOT_AUTHENTICATED"
    category = Category.UNAUTHENTICATED
    default_message = "Sign in to do this."


class TokenExpired(ChitramError):
    """The token or API key was good once."""

    code = "TOKEN_EXPIRED"
    category = Category.UNAUTHENTICATED
    default_message = "The token has expired."


class InvalidToken(ChitramError):
    """The token or API key is none of ours, or was revoked."""

    code = "INVALID_TOKEN"
    category = Category.UNAUTHENTICATED
    default_message = "The token is not valid."


class InvalidCredentials(ChitramError):
    """No active account has this address and this password; which of them is wrong is not said."""

    code = "INVALID_CREDENTIALS"
    category = Category.UNAUTHENTICATED
    default_message = "The e-mail address or the password is wrong."


class Forbidden(ChitramError):
    """Whoever is signed in may not do this."""

    code = "FORBIDDEN"
    category = Category.FORBIDDEN
    default_message = "This account may not do that."


class RegistrationClosed(ChitramError):
    """Only an administrator makes accounts here."""

    code = "REGISTRATION_CLOSED"
    category = Category.FORBIDDEN
    default_message = "Nobody can register here. Ask the administrator for an account."


class EmailTaken(ChitramError):
    """There is an account with this address, perhaps written in another case."""

    code = "EMAIL_TAKEN"
    category = Category.CONFLICT
    default_message = "There is an account with this e-mail address already."


class WeakPassword(ChitramError):
    """The password is too short, too long, the address itself, or among those that are tried first."""

    code = "WEAK_PASSWORD"
    category = Category.INVALID
    default_message = "The password is too easy to guess."

    def __init__(self, reason: str, message: str, **limits: int) -> None:
        super().__init__(message, details={"field": "password", "reason": reason, **limits})


class QuotaExceeded(ChitramError):
    """The account has no room for one more image of this size."""

    code = "QUOTA_EXCEEDED"
    category = Category.FORBIDDEN
    default_message = "The account has no room for this image."


class ApiKeyNotFound(ChitramError):
    """The account has no such API key."""

    code = "API_KEY_NOT_FOUND"
    category = Category.NOT_FOUND
    default_message = "There is no such API key."


class TooManyApiKeys(ChitramError):
    """The account has as many API keys as one may have, `max_keys`."""

    code = "TOO_MANY_API_KEYS"
    category = Category.CONFLICT
    default_message = "The account has as many API keys as it may. Remove one first."


class SignInCapacityExceeded(ChitramError):
    """More passwords wait to be checked than this process takes on."""

    code = "SIGN_IN_CAPACITY_EXCEEDED"
    category = Category.UNAVAILABLE
    default_message = "Too many people are signing in at once. Try again shortly."

    def __init__(self) -> None:
        super().__init__(retry_after=2)


class AccountNotFound(ChitramError):
    """There is no account with this address."""

    code = "ACCOUNT_NOT_FOUND"
    category = Category.NOT_FOUND
    default_message = "There is no account with this e-mail address."

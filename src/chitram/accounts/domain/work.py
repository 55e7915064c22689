"""Kinds of outbox work that accounts owe, and the names of what their payloads hold."""

from __future__ import annotations

# Nothing that is remembered of a session, of an API key or of all credentials of an account holds
# any more. A payload has one of the three.
FORGET_CREDENTIALS = "credentials.forget"
SESSION_ID = "session_id"
KEY_HASH = "key_hash"
USER_ID = "user_id"

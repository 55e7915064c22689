"""Remove sessions and refresh tokens that are over."""

from __future__ import annotations

from datetime import timedelta

from chitram.accounts.ports import AccountTransactions
from chitram.accounts.use_cases.opening import SessionRules
from chitram.kernel.clock import Clock

_BATCH = 1000
# Until then a token of theirs is told why it is refused, and where they came from is not strange.
_KEPT = timedelta(days=1)


class ClearSessions:
    """Run by the worker, any number of times, also twice at once.

    A used refresh token is kept as long as a session lives without being renewed: whoever brings it
    back before that ends the session, and later it is as unknown as any other.
    """

    def __init__(self, transactions: AccountTransactions, clock: Clock, rules: SessionRules) -> None:
        self._transactions = transactions
        self._clock = clock
        self._rules = rules

    async def __call__(self) -> int:
        """Clear up once; return how many sessions and tokens were removed."""
        removed, now = 0, self._clock.now()
        while True:
            async with self._transactions.begin() as transaction:
                batch = await transaction.sessions.clear(
                    over=now - _KEPT, used=now - self._rules.life - _KEPT, limit=_BATCH
                )
                await transaction.commit()
            removed += batch
            if batch == 0:
                return removed

"""Forget idempotency keys whose time is over."""

from __future__ import annotations

from chitram.images.ports import Transactions

_BATCH = 1000


class ForgetKeys:
    """Run by the worker. A key can be used afresh as soon as its time is over; this gives its row back."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def __call__(self) -> int:
        """Forget every key whose time is over by now; return how many."""
        forgotten = 0
        while True:
            async with self._transactions.begin() as transaction:
                some = await transaction.keys.forget_expired(_BATCH)
                await transaction.commit()
            forgotten += some
            if some < _BATCH:
                return forgotten

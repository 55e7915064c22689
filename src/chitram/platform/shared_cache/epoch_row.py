"""The table of the cache epoch."""

from __future__ import annotations

from advanced_alchemy.base import DefaultBase
from sqlalchemy import BigInteger, Boolean, text
from sqlalchemy.orm import Mapped, mapped_column


class CacheEpochRow(DefaultBase):
    """One row; raising `epoch` makes every cached entry unreadable at once."""

    __tablename__ = "cache_epoch"

    singleton: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default=text("true"))
    epoch: Mapped[int] = mapped_column(BigInteger)

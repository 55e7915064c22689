"""A running API with people in it who own images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.accounts import Account, Accounts, Headers
from tests.support.api import UPLOAD, Api
from tests.support.photos import jpeg

IMAGES = "/api/v1/images"


@dataclass
class House:
    """A running API, its accounts, and three people."""

    api: Api
    accounts: Accounts
    owner: Account
    stranger: Account
    admin: Account

    @property
    def client(self) -> httpx.AsyncClient:
        return self.api.client

    async def ask(
        self, method: str, path: str, who: Account | Headers | None = None, **content: Any
    ) -> httpx.Response:
        """Make a request under `/api/v1/images`, as somebody or as nobody."""
        headers = who.headers if isinstance(who, Account) else who or {}
        return await self.client.request(
            method, f"{IMAGES}{path}", headers={**headers, **content.pop("headers", {})}, **content
        )

    async def upload(self, who: Account | Headers | None = None, **fields: str) -> httpx.Response:
        """Upload a small photo by form."""
        headers = who.headers if isinstance(who, Account) else who or {}
        return await self.client.post(UPLOAD, files={"file": ("a.jpg", jpeg())}, data=fields, headers=headers)

    async def image(self, who: Account | Headers | None, **fields: str) -> str:
        """Upload what must be accepted; its id."""
        answer = await self.upload(who, **fields)
        assert answer.status_code == 201, answer.text
        image_id: str = answer.json()["id"]
        return image_id


StartHouse = Callable[..., AbstractAsyncContextManager[House]]


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]

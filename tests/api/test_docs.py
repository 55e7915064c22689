"""The OpenAPI document and the page over it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.api import Api

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


async def test_the_served_document_is_the_committed_one(api: Api) -> None:
    answer = await api.client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == json.loads(COMMITTED.read_text())


async def test_the_page_and_all_it_loads_come_from_here(api: Api) -> None:
    page = await api.client.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for address in loaded:
        assert address.startswith("/docs/assets/")
        assert (await api.client.get(address)).status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    "operation",
    [
        "uploadImage",
        "uploadImageBytes",
        "uploadImages",
        "getImage",
        "beginUpload",
        "putUploadContent",
        "completeUpload",
    ],
)
async def test_operations_have_names_of_their_own(operation: str) -> None:
    document = json.loads(COMMITTED.read_text())
    names = [item["operationId"] for path in document["paths"].values() for item in path.values()]
    assert operation in names
    assert len(set(names)) == len(names)


def test_bodies_and_refusals_are_described() -> None:
    document = json.loads(COMMITTED.read_text())
    upload = document["paths"]["/api/v1/images/upload"]["post"]
    form = upload["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["file"] == {"type": "string", "format": "binary"}
    assert form["required"] == ["file"]
    assert {"201", "400", "408", "413", "415", "422", "503"} <= set(upload["responses"])
    file = document["paths"]["/api/v1/images/{image_id}/file"]["get"]
    assert file["responses"]["200"]["content"]["image/jpeg"]["schema"]["format"] == "binary"
    assert {"206", "304", "404", "412", "416"} <= set(file["responses"])
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status >= "400" and "content" in response:
                    [content] = response["content"].values()
                    reference = content["schema"].get("$ref", "")
                    assert reference.endswith(("ErrorBody", "HealthBody", "ReadyBody")), (status, content)

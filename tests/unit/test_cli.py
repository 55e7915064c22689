"""The command line."""

from __future__ import annotations

import pytest

from chitram.main.cli import main


@pytest.mark.parametrize("arguments", [["admin", "--help"], ["admin", "-h"], ["admin", "jobs", "--help"]])
def test_administration_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert "chitram admin" in capsys.readouterr().out

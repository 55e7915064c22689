from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECTIONS = ["Context", "Decision", "Rejected", "Consequences", "In the code"]

# A page is about 70 lines of 110 characters.
LONGEST_RECORD_WORDS = 600

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """Return the anchors that a forge makes of a document's headings."""
    kept = (re.sub(r"[^\w\- ]", "", heading) for heading in HEADING.findall(path.read_text()))
    return {heading.strip().lower().replace(" ", "-") for heading in kept}


def test_decision_records_are_numbered_without_gaps() -> None:
    numbers = [int(path.name.partition("-")[0]) for path in RECORDS]
    assert numbers == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_decision_record_has_its_number_a_status_and_the_five_sections(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {path.name[:4]}. ")
    assert re.search(r"^Status: (accepted|replaced by \d{4}), \d{4}-\d{2}-\d{2}\b", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert all(re.findall(rf"^## {section}\n\n\S", text, re.MULTILINE) for section in SECTIONS)
    assert len(text.split()) <= LONGEST_RECORD_WORDS


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_decision_record_names_code_that_exists(path: Path) -> None:
    quoted = re.findall(r"`([^`]+)`", path.read_text().partition("## In the code")[2])
    paths = [word for word in quoted if "/" in word or word.endswith((".py", ".toml"))]
    assert paths or "Nowhere yet" in path.read_text()
    assert [word for word in paths if not (ROOT / word).exists()] == []


def test_the_architecture_page_names_code_that_exists() -> None:
    quoted = re.findall(r"`([^`\s]+)`", FENCED.sub("", (ROOT / "docs" / "architecture.md").read_text()))
    paths = [word for word in quoted if re.fullmatch(r"[\w./-]+(/|\.\w+)", word) and "/" in word]
    assert len(paths) > 20
    places = (ROOT, ROOT / "src" / "chitram")
    assert [word for word in paths if not any((place / word).exists() for place in places)] == []


def test_the_list_of_decisions_names_every_record_by_its_title() -> None:
    listed = (ROOT / "docs" / "adr" / "README.md").read_text()
    for path in RECORDS:
        title = path.read_text().splitlines()[0].partition(". ")[2]
        assert f"| [{path.name[:4]}]({path.name}) | {title} |" in listed


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_every_relative_link_of_a_document_leads_somewhere(path: Path) -> None:
    broken = []
    for link in LINK.findall(FENCED.sub("", path.read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


def test_nothing_is_left_to_be_filled_in() -> None:
    for document in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")):
        assert not re.search(r"@[A-Z]+@|TODO|FIXME", document.read_text()), document

"""Documents: every reference to a document resolves inside the repository."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NUMBERED = {"behaviour": "docs/behaviour.md", "wire": "docs/wire.md"}
REFERENCE = re.compile(r"\b(behaviour|wire) (\d+(?:\.\d+)?(?:(?:, | and | to )\d+(?:\.\d+)?)*)")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
# These documents were once referred to, and are not in the repository.
ABSENT = re.compile(r"\bDESIGN\b(?! =)|product\.md|STYLE\.md|\bSTYLE (?:rule )?\d")


@cache
def tracked_files(*patterns: str) -> tuple[Path, ...]:
    names = subprocess.run(  # noqa: S603
        ["git", "ls-files", *patterns],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return tuple(ROOT / name for name in names if (ROOT / name).is_file())


@cache
def section_numbers(document: str) -> frozenset[str]:
    return frozenset(re.findall(r"^#+ (\d+(?:\.\d+)?)\b", (ROOT / NUMBERED[document]).read_text(), re.MULTILINE))


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_numbered_reference_names_an_existing_section():
    missing = []
    for path in tracked_files("*.py", "*.md", "*.html", "*.js"):
        for document, numbers in REFERENCE.findall(path.read_text()):
            missing += [
                f"{path.relative_to(ROOT)}: {document} {number}"
                for number in NUMBER.findall(numbers)
                if number not in section_numbers(document)
            ]
    assert missing == []


@pytest.mark.parametrize("document", tracked_files("*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_between_documents_leads_somewhere(document):
    broken = []
    for target in LINK.findall(document.read_text()):
        name, _, anchor = target.partition("#")
        found = (document.parent / name).resolve() if name else document
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


def test_no_reference_names_a_document_that_is_not_in_the_repository():
    here = Path(__file__).resolve()
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files("*.py", "*.html", "*.js", "*.md")
        if path != here and path.name != "CHANGELOG.md"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if ABSENT.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_that_a_document_names_exists(document):
    text = (ROOT / document).read_text()
    paths = re.findall(r"`((?:config|outbound|delivery|messaging|audiences|tests|templates)/[\w/.]+)`", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_name_that_a_document_gives_for_a_module_is_in_the_module(document):
    text = (ROOT / document).read_text()
    named = re.findall(r"`(\w+)`[^`\n]{0,12} (?:in|\()[ ]?`([\w/]+\.py)`", text)
    named += [(name, path) for path, name in re.findall(r"`([\w/]+\.py)` \(`(\w+)`", text)]
    assert named
    missing = [f"{path}: {name}" for name, path in named if not re.search(rf"\b{name}\b", (ROOT / path).read_text())]
    assert missing == []


def test_every_function_that_the_architecture_names_exists():
    text = (ROOT / "docs/architecture.md").read_text()
    missing = []
    for dotted in re.findall(r"`((?:outbound|delivery|messaging|audiences|config)(?:\.\w+)+)`", text):
        module = ROOT / dotted.replace(".", "/")
        if module.is_dir() or module.with_suffix(".py").exists():
            continue
        parent, _, name = dotted.rpartition(".")
        source = (ROOT / parent.replace(".", "/")).with_suffix(".py")
        if not source.exists() or not re.search(rf"^(?:def|class) {name}\b", source.read_text(), re.MULTILINE):
            missing.append(dotted)
    assert missing == []

"""Differences between versions of a message, word by word."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from audiences.models import Audience
from audiences.rules import RuleError
from messaging.models import MessageVersion
from outbound.console.wording import audience_lines

WORDS = re.compile(r"\s+|[^\s]+")
BREAK = re.compile(r"</(?:p|div|h[1-6]|li|blockquote|pre)>|<br\s*/?>", re.IGNORECASE)
LINK = re.compile(r"<a\b[^>]*\bhref=[\"']([^\"']*)[\"'][^>]*>(.*?)</a>", re.IGNORECASE | re.DOTALL)
IMAGE = re.compile(r"<img\b[^>]*\bsrc=[\"']([^\"']*)[\"'][^>]*>", re.IGNORECASE)
TAG = re.compile(r"<[^>]+>")
ENTITIES = {"&nbsp;": " ", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&amp;": "&"}


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that were `kept`, `added` or `removed`."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Revision:
    """One version and its differences from the version before; none for the first."""

    version: MessageVersion
    subject: list[Piece]
    body: list[Piece]
    filters: list[Piece]
    link: list[Piece]

    @property
    def changed(self) -> list[str]:
        """Return the names of the changed parts."""
        parts = (("Subject", self.subject), ("Text", self.body), ("Link", self.link), ("Filters", self.filters))
        return [name for name, pieces in parts if any(piece.kind != "kept" for piece in pieces)]


def body_as_text(html: str) -> str:
    """Return a body as text, with the URLs of its links and images so that every change is visible."""
    text = LINK.sub(r"\2 [\1]", html)
    text = TAG.sub("", BREAK.sub("\n", IMAGE.sub(r"[picture \1]", text)))
    for entity, character in ENTITIES.items():
        text = text.replace(entity, character)
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def word_diff(before: str, after: str) -> list[Piece]:
    """Return the words of both texts in order, marked as kept, added or removed."""
    old, new = WORDS.findall(before), WORDS.findall(after)
    pieces: list[Piece] = []
    for tag, old_from, old_to, new_from, new_to in SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("kept", "".join(new[new_from:new_to])))
            continue
        if old_to > old_from:
            pieces.append(Piece("removed", "".join(old[old_from:old_to])))
        if new_to > new_from:
            pieces.append(Piece("added", "".join(new[new_from:new_to])))
    return pieces


def filter_text(version: MessageVersion) -> str:
    """Return the filters of a version, one line each."""
    try:
        lines = audience_lines(Audience(rules=version.rules or {}).tree)
    except RuleError:
        return ""
    return "\n".join(" ".join(part for part in (line.joint, line.text) if part) for line in lines)


def revisions(versions: list[MessageVersion]) -> Iterator[Revision]:
    """Yield each version with its differences, in the given order, newest first."""
    for version, before in zip(versions, [*versions[1:], None], strict=True):
        if before is None:
            subject, body = [Piece("kept", version.subject)], [Piece("kept", body_as_text(version.body))]
            yield Revision(version, subject, body, [], [Piece("kept", version.link)] if version.link else [])
            continue
        same_rules = version.rules == before.rules
        yield Revision(
            version,
            word_diff(before.subject, version.subject),
            word_diff(body_as_text(before.body), body_as_text(version.body)),
            [] if same_rules else word_diff(filter_text(before), filter_text(version)),
            word_diff(before.link, version.link),
        )


def body_links(body: str) -> list[tuple[str, str]]:
    """Return the distinct links of a body with their texts."""
    found = {href: TAG.sub("", words).strip() for href, words in LINK.findall(body)}
    return [(href, words or href) for href, words in found.items()]

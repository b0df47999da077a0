"""Conversion of rich text to plain text."""

import re
from collections.abc import Callable
from html.parser import HTMLParser

BLOCKS = {"p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre", "ul", "ol", "table", "hr"}
# Maximum indentation of lists and quotes. Without it, an inbound email could make every line arbitrarily long.
MAX_DEPTH = 20


def html_to_text(source: str) -> str:
    """Convert rich text to plain text with paragraphs, lists, and links as "text (address)"."""
    reader = PlainTextParser()
    reader.feed(source)
    reader.close()
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", "".join(reader.out))).strip()


class PlainTextParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self.links: list[tuple[str, int]] = []
        self.lists: list[int] = []
        self.quotes = 0
        self.verbatim = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in BLOCKS and not (tag in {"ul", "ol"} and self.lists):
            self.paragraph()
        if tag == "a":
            self.links.append((given.get("href", ""), len(self.out)))
        elif tag in START_TAG_HANDLERS:
            START_TAG_HANDLERS[tag](self, given)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self.links:
            address, start = self.links.pop()
            text = "".join(self.out[start:]).strip()
            address = address.removeprefix("mailto:").removeprefix("tel:")
            if address and address not in {text, "#"}:
                self.write(f" ({address})" if text else address)
        elif tag in {"ul", "ol"} and self.lists:
            self.lists.pop()
        elif tag == "blockquote":
            self.quotes = max(0, self.quotes - 1)
        elif tag == "pre":
            self.verbatim = max(0, self.verbatim - 1)
        if tag in BLOCKS and not (tag in {"ul", "ol"} and self.lists):
            self.paragraph()

    def handle_data(self, data: str) -> None:
        if not self.verbatim:
            data = re.sub(r"[ \t\r\n\f]+", " ", data)
            if not self.out or self.out[-1].endswith(("\n", "> ", " ")):
                data = data.lstrip(" ")
        self.write(data.replace("\n", self.new_line) if self.verbatim else data)

    def handle_comment(self, data: str) -> None:
        # `sanitize` leaves only the comments that are placeholders for Liquid.
        self.write(f"<!--{data}-->")

    @property
    def new_line(self) -> str:
        return "\n" + "> " * min(self.quotes, MAX_DEPTH)

    def write(self, text: str) -> None:
        if text:
            self.out.append(text)

    def paragraph(self) -> None:
        self.write(f"\n{self.new_line}")

    def cell(self) -> None:
        if self.out and not self.out[-1].endswith("\n"):
            self.write(" ")

    def item(self, _given: dict[str, str]) -> None:
        mark = "- "
        if self.lists and self.lists[-1] >= 0:
            self.lists[-1] += 1
            mark = f"{self.lists[-1]}. "
        self.write(f"{self.new_line}{'  ' * min(len(self.lists) - 1, MAX_DEPTH)}{mark}")


def _open_list(reader: PlainTextParser, given: dict[str, str], *, numbered: bool) -> None:
    start = given.get("start", "")
    reader.lists.append((int(start) - 1 if start.isascii() and start.isdigit() else 0) if numbered else -1)


def _open_quote(reader: PlainTextParser, _given: dict[str, str]) -> None:
    reader.quotes += 1
    reader.write("> ")


def _open_verbatim(reader: PlainTextParser, _given: dict[str, str]) -> None:
    reader.verbatim += 1


START_TAG_HANDLERS: dict[str, Callable[[PlainTextParser, dict[str, str]], None]] = {
    "br": lambda reader, _: reader.write(reader.new_line),
    "hr": lambda reader, _: reader.write("---"),
    "img": lambda reader, given: reader.write(given.get("alt", "")),
    "li": PlainTextParser.item,
    "tr": lambda reader, _: reader.write(reader.new_line),
    "td": lambda reader, _: reader.cell(),
    "th": lambda reader, _: reader.cell(),
    "ul": lambda reader, given: _open_list(reader, given, numbered=False),
    "ol": lambda reader, given: _open_list(reader, given, numbered=True),
    "blockquote": _open_quote,
    "pre": _open_verbatim,
}

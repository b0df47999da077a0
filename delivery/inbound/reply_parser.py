"""Reply parser: the text of an email without quotes, signatures and lines such as "Sent from my phone".

The HTML of an email marks its quotes, in each mail program's own way, so it is used first. In plain text, the parser
looks for the lines that programs put above a quote. Only a marked quote is removed: lines with ">", and blocks marked
as cited. Other text that may be a quote or a signature is folded, because the writer's own words may stand in it.
"""

import re
from collections import Counter
from collections.abc import Iterable
from html import unescape
from typing import NamedTuple

from delivery.inbound import quote_headers
from messaging.content.plain_text import PlainTextParser

MAX_SEARCHED_LENGTH = 50_000
MAX_QUOTES = 20
MOBILE_SIGNATURE = re.compile(
    r"(?:Sent (?:from|with|via)|Get Outlook for|Von meinem|Gesendet (?:von|mit|aus)|Diese Nachricht wurde von meinem"
    r"|Outlook für (?:iOS|Android)|Télécharger Outlook|Obtenez Outlook|Envoyé (?:de|depuis|à partir de)"
    r"|Enviado (?:desde|do|a partir do)"
    r"|Obtener Outlook|Obter o Outlook|Inviato da|Scarica Outlook|Verzonden (?:vanaf|met|via)|Verstuurd vanaf"
    r"|Outlook voor"
    r"|Skickat från|Sendt fra|Hent Outlook|Hämta Outlook|Wysłane z|Wysłano z|Pobierz Outlook|Odesláno z|Odoslané z"
    r"|Získat Outlook"
    r"|Отправлено |Надіслано |Lähetetty|Hanki Outlook|Elküldve a|iPhone-(?:omról|ról)|iPhone'umdan|iPhoneから"
    r"|Trimis de pe"
    r"|发自我的|從我的|从我的.{0,10}发送|내 .{0,20}에서 보냄).{0,80}",
    re.IGNORECASE,
)
QUOTED_LINE = re.compile(r"^>", re.MULTILINE)
# A line that a program adds names it or a device; else it may be the writer's last sentence.
DEVICE = re.compile(
    r"iPhone|iPad|iCloud|Mac\b|Apple|Android|Outlook|Mail\b|mail app|Samsung|Galaxy|Huawei|Xiaomi|Redmi|HONOR|OnePlus"
    r"|Pixel|Nokia|Sony|Xperia|OPPO|BlackBerry|Windows|Yahoo|Proton|Tuta|GMX|WEB\.DE|Gmail|Superhuman|Spark|Thunderbird|K-9"
    r"|AOL|Orange|Free|Handy|Smartphone|smartphone|Mobil|mobile? (?:phone|device)|my phone|tablet|Tablet|[Tt]elefon"
    r"|téléphone|telefono|teléfono|móvil|celular|telefoon|puhelin|телефон|手机|手機|휴대"
)
# A drawn line, with or without text in it, such as "Original Message".
SEPARATOR = re.compile(r"[_*=-]{3,}|-{3,} ?[\w ]{3,40}-{3,}")

# Classes of elements that contain only the line above a quote.
ATTRIBUTION_CLASSES = {"gmail_attr", "moz-cite-prefix"}
# Classes of elements around a quote; people write below the quote in them.
QUOTE_CLASSES = {"yahoo_quoted", "protonmail_quote", "tutanota_quote", "zmail_extra"}
# IDs of elements after which everything is quoted.
TRAILING_QUOTE_IDS = {"appendonsend", "divrplyfwdmsg", "mail-editor-reference-message-container", "replysplit"}
# The line that Outlook for Windows draws above a quote header.
OUTLOOK_LINE = re.compile(r"border:\s*none;\s*border-top:\s*solid #(?:e1e1e1|b5c4df)", re.IGNORECASE)
HIDDEN_ELEMENTS = {"head", "script", "style", "title", "template"}
# Mail programs indent paragraphs by a blockquote without a line.
INDENTATION = re.compile(r"border(?:-left)?:\s*(?:none|0)", re.IGNORECASE)
# Stands for a removed or folded quote: text below the quote then belongs to the reply.
QUOTE_MARK = "\n>\n"
NO_MARGIN = re.compile(r"margin(?:-\w+)?:\s*0")
# Outlook's conditional comments, which confuse the parser; the end of an enclosing comment is left in place.
CONDITIONAL_COMMENT = re.compile(r"<!\[(?:[^>]{0,500}(?<!--)>)?")
TAG = re.compile(r"<[^<>]*>")
VOID_ELEMENTS = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class Reply(NamedTuple):
    """A reply: the writer's own words, an end that may be a quote, and the Content-IDs of the images in the words."""

    text: str
    folded: str = ""
    images: frozenset[str] = frozenset()


class OpenElements:
    """An open element with all open elements in it, in order and counted by tag."""

    def __init__(self) -> None:
        self.tags: list[str] = []
        self.count: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self.tags)

    def open(self, tag: str) -> None:
        if tag not in VOID_ELEMENTS:
            self.tags.append(tag)
            self.count[tag] += 1

    def close(self, tag: str) -> bool:
        """Close the last element of a tag with the unclosed elements in it; return False if there is none."""
        if not self.count[tag]:
            return False
        ended = ""
        while ended != tag:
            ended = self.tags.pop()
            self.count[ended] -= 1
        return True


class ReplyReader(PlainTextParser):
    """Converts the HTML of an email to plain text, with the parts that may be quotes in `folded`."""

    def __init__(self) -> None:
        super().__init__()
        self.images: set[str] = set()
        self.folded_images: set[str] = set()
        self.left_out = OpenElements()
        self.fold = OpenElements()
        self.fold_begin: int | None = None
        self.state_before_fold: tuple[int, list[int]] = (0, [])
        self.folded: list[str] = []
        self.paragraph_is_a_line = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if self.left_out or tag in HIDDEN_ELEMENTS or is_marked_quote(tag, given):
            if tag == "blockquote" and not self.left_out:
                self.write(QUOTE_MARK)
            self.left_out.open(tag)
            return
        if self.fold:
            self.fold.open(tag)
        elif self.fold_begin is None and starts_trailing_quote(tag, given):
            self.begin_fold()
        elif self.fold_begin is None and may_be_quote(tag, given):
            self.begin_fold()
            self.fold.open(tag)
        if tag == "img":
            self.handle_image(given)
        elif self.begins_a_line(tag, given):
            self.start_line()
        else:
            super().handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self.left_out.close(tag) or self.left_out:
            return
        if tag == "div" or (tag == "p" and self.paragraph_is_a_line):
            self.start_line()
        else:
            super().handle_endtag(tag)
        if self.fold.close(tag) and not self.fold:
            self.end_fold()

    def begin_fold(self) -> None:
        self.fold_begin = len(self.out)
        self.state_before_fold = (self.verbatim, list(self.lists))

    def end_fold(self) -> None:
        """Move the text since `begin_fold` to the folded text, and forget its unclosed elements."""
        if self.fold_begin is not None:
            self.folded += ["\n\n", *self.out[self.fold_begin :]]
            del self.out[self.fold_begin :]
            self.fold_begin = None
            self.verbatim, self.lists = self.state_before_fold
            self.write(QUOTE_MARK)

    def handle_data(self, data: str) -> None:
        if not self.left_out:
            super().handle_data(data.replace("\xa0", " ") if data.strip("\xa0") else "\xa0")

    def handle_comment(self, data: str) -> None:
        """Ignore comments."""

    def add_unclosed_rest(self) -> None:
        """Add the rest after a tag or comment that never ends, as text.

        `close` would take quadratic time, as it searches all the rest for the end of each "<".
        """
        unended, self.rawdata = self.rawdata, ""
        self.handle_data(unescape(TAG.sub(" ", unended)))

    def begins_a_line(self, tag: str, given: dict[str, str]) -> bool:
        """Tell whether an element is one line: a div, a paragraph without margin, or an indented text."""
        if tag == "p":
            self.paragraph_is_a_line = "msonormal" in given.get("class", "").lower() or bool(
                NO_MARGIN.search(given.get("style", ""))
            )
        return tag in {"div", "blockquote"} or (tag == "p" and self.paragraph_is_a_line)

    def start_line(self) -> None:
        if self.out and not self.out[-1].endswith("\n"):
            self.write(self.new_line)

    def handle_image(self, given: dict[str, str]) -> None:
        """Collect an attached image; of a remote image, write only a short alternative text, such as an emoji."""
        source = given.get("src", "")
        if source.lower().startswith("cid:"):
            # Mail programs attach the images of a quote again, such as logos.
            (self.images if self.fold_begin is None else self.folded_images).add(source[4:])
        elif len(given.get("alt", "")) <= 4:
            self.write(given.get("alt", ""))


def is_marked_quote(tag: str, given: dict[str, str]) -> bool:
    """Tell whether an element contains only text that the mail program marked as cited."""
    classes = set(given.get("class", "").lower().split())
    if tag == "blockquote":
        return given.get("type", "").lower() == "cite" or "cite" in given or "gmail_quote" in classes
    return bool(classes & ATTRIBUTION_CLASSES)


def may_be_quote(tag: str, given: dict[str, str]) -> bool:
    """Tell whether an element may contain the quoted email, and below it the writer's own words."""
    if tag == "blockquote":
        return not INDENTATION.search(given.get("style", ""))
    classes = set(given.get("class", "").lower().split())
    return bool(classes & QUOTE_CLASSES) or given.get("id", "").lower().startswith("yahoo_quoted")


def starts_trailing_quote(tag: str, given: dict[str, str]) -> bool:
    """Tell whether everything from this element on may be quoted."""
    name = given.get("id", "").lower().removeprefix("x_")
    return name in TRAILING_QUOTE_IDS or (tag == "div" and bool(OUTLOOK_LINE.search(given.get("style", ""))))


def parse_html_reply(source: str) -> Reply:
    """Return the reply in an HTML body, as plain text."""
    reader = ReplyReader()
    reader.feed(CONDITIONAL_COMMENT.sub("", source))
    reader.add_unclosed_rest()
    reader.end_fold()
    own, folded = (normalize_whitespace("".join(texts)) for texts in (reader.out, reader.folded))
    own = own if own.strip("> \n") else ""
    if not own and not reader.images:
        return parse_text_reply(folded)._replace(images=frozenset(reader.folded_images))
    reply = parse_text_reply(own)
    ends = [reply.folded, folded if has_words(folded) else ""]
    return Reply(reply.text, join_texts(ends), frozenset(reader.images))


def parse_text_reply(source: str) -> Reply:
    """Return the reply in a plain-text body."""
    text = normalize_whitespace(source)
    above, header, below = split_at_quote(text)
    parts = [split_at_signature(above)]
    if not parts[0][0] or QUOTED_LINE.search(below):
        # If quoted lines are marked, the unmarked lines between them belong to the reply.
        parts += map(split_at_signature, texts_between_quotes(below))
    elif below:
        parts.append(("", f"{header}\n{below}"))
    own, folded = (join_texts(texts) for texts in zip(*parts, strict=True))
    return Reply(own, folded) if own else Reply(text)


def has_words(folded: str) -> bool:
    """Tell whether a text that may be a quote is more than the header of a removed quote."""
    above, _, below = split_at_quote(folded)
    return any(any(split_at_signature(text)) for text in (above, below))


def join_texts(texts: Iterable[str]) -> str:
    return "\n\n".join(filter(None, texts))


def split_doubtful_quote(reply: str) -> tuple[str, str]:
    """Split the text of a reply into the writer's own words and an end that may be a quote; "" if none may be."""
    lines = reply[:MAX_SEARCHED_LENGTH].split("\n")
    begin = quote_headers.find_doubtful_header(lines)
    own = "" if begin is None else "\n".join(lines[:begin]).strip()
    # A header at the end has no quote below it, and without own words nothing would be left to show.
    if begin is None or not own or not any(line.strip() for line in lines[begin + 1 :]):
        return reply, ""
    return own, ("\n".join(lines[begin:]) + reply[MAX_SEARCHED_LENGTH:]).strip()


def texts_between_quotes(text: str) -> list[str]:
    """Return the texts between quotes that each begin with a header."""
    texts: list[str] = []
    while text and len(texts) < MAX_QUOTES:
        above, _, text = split_at_quote(text)
        texts.append(above)
    return [*texts, text]


def split_at_quote(text: str) -> tuple[str, str, str]:
    """Return the text above the first quote header, the header, and the text below it."""
    searched, rest = text[:MAX_SEARCHED_LENGTH], text[MAX_SEARCHED_LENGTH:]
    lines = searched.split("\n")
    found = quote_headers.find_quote_header(lines)
    if found is None:
        return text, "", ""
    begin, end = found
    return "\n".join(lines[:begin]), "\n".join(lines[begin:end]), "\n".join(lines[end:]) + rest


def split_at_signature(text: str) -> tuple[str, str]:
    """Return the text above "--" without the line that a mail program adds, and the signature; no quoted lines."""
    unquoted = "\n".join(line for line in text.split("\n") if not line.startswith(">"))
    own, _, signature = f"\n{unquoted}\n".partition("\n--\n")
    lines = own.strip().split("\n")
    while lines and is_noise_line(lines[-1].strip(), is_only=len(lines) == 1):
        lines.pop()
    return normalize_whitespace("\n".join(lines)), normalize_whitespace(signature)


def is_noise_line(line: str, *, is_only: bool) -> bool:
    """Tell whether a last line is empty, a drawn separator, or added by the mail program."""
    return (
        not line
        or bool(SEPARATOR.fullmatch(line))
        or (not is_only and bool(MOBILE_SIGNATURE.fullmatch(line) and DEVICE.search(line)))
    )


def normalize_whitespace(text: str) -> str:
    """Strip the ends of lines, and reduce several empty lines to one."""
    lines = (line.replace("\xa0", " ").rstrip() for line in re.sub(r"\r\n?", "\n", text).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

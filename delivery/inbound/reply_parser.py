"""Reply parser: the text of an email without quotes, signatures and lines such as "Sent from my phone".

The HTML of an email marks its quotes, in each mail program's own way, so it is used first. In plain text, the parser
looks for the lines that programs put above a quote. If nothing would be left, the whole text is returned: a wrong guess
never loses text.
"""

import re
from collections import Counter
from html import unescape

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
SIGNATURE = re.compile(r"\n-- ?\n")
# A drawn line, with or without text in it, such as "Original Message".
SEPARATOR = re.compile(r"[_*=-]{3,}|-{3,} ?[\w ]{3,40}-{3,}")

# Classes of elements that contain only a quote; cited blockquotes are checked in addition.
QUOTE_CLASSES = {"gmail_attr", "yahoo_quoted", "moz-cite-prefix", "protonmail_quote", "tutanota_quote", "zmail_extra"}
# IDs of elements after which everything is quoted.
TRAILING_QUOTE_IDS = {"appendonsend", "divrplyfwdmsg", "mail-editor-reference-message-container", "replysplit"}
# The line that Outlook for Windows draws above a quote header.
OUTLOOK_LINE = re.compile(r"border:\s*none;\s*border-top:\s*solid #(?:e1e1e1|b5c4df)", re.IGNORECASE)
HIDDEN_ELEMENTS = {"head", "script", "style", "title", "template"}
NO_MARGIN = re.compile(r"margin(?:-\w+)?:\s*0")
# Outlook's conditional comments, which confuse the parser; the end of an enclosing comment is left in place.
CONDITIONAL_COMMENT = re.compile(r"<!\[(?:[^>]{0,500}(?<!--)>)?")
TAG = re.compile(r"<[^<>]*>")
VOID_ELEMENTS = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class ReplyReader(PlainTextParser):
    """Converts the HTML of an email to plain text without its quotes."""

    def __init__(self) -> None:
        super().__init__()
        self.images: set[str] = set()
        # Open elements within a quote, in order and counted by tag.
        self.left_out: list[str] = []
        self.open: Counter[str] = Counter()
        self.ended = False
        self.paragraph_is_a_line = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if not self.ended and not self.left_out and starts_trailing_quote(tag, given):
            self.ended = True
        if self.ended:
            return
        if self.left_out or tag in HIDDEN_ELEMENTS or is_quote(tag, given):
            if tag not in VOID_ELEMENTS:
                self.left_out.append(tag)
                self.open[tag] += 1
        elif tag == "img":
            self.handle_image(given)
        elif self.begins_a_line(tag, given):
            self.start_line()
        else:
            super().handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self.ended:
            return
        if self.open[tag]:
            # Unclosed elements within it end with it.
            ended = ""
            while ended != tag:
                ended = self.left_out.pop()
                self.open[ended] -= 1
        elif self.left_out:
            return
        elif tag == "div" or (tag == "p" and self.paragraph_is_a_line):
            self.start_line()
        else:
            super().handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        if not self.ended and not self.left_out:
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
        """Tell whether an element is one line: a div, or a paragraph without margin."""
        if tag == "p":
            self.paragraph_is_a_line = "msonormal" in given.get("class", "").lower() or bool(
                NO_MARGIN.search(given.get("style", ""))
            )
        return tag == "div" or (tag == "p" and self.paragraph_is_a_line)

    def start_line(self) -> None:
        if self.out and not self.out[-1].endswith("\n"):
            self.write(self.new_line)

    def handle_image(self, given: dict[str, str]) -> None:
        """Collect an attached image; of a remote image, write only a short alternative text, such as an emoji."""
        source = given.get("src", "")
        if source.lower().startswith("cid:"):
            self.images.add(source[4:])
        elif len(given.get("alt", "")) <= 4:
            self.write(given.get("alt", ""))


def is_quote(tag: str, given: dict[str, str]) -> bool:
    """Tell whether an element contains only the quoted email."""
    classes = set(given.get("class", "").lower().split())
    if tag == "blockquote":
        return given.get("type", "").lower() == "cite" or "cite" in given or "gmail_quote" in classes
    return bool(classes & QUOTE_CLASSES) or given.get("id", "").lower().startswith("yahoo_quoted")


def starts_trailing_quote(tag: str, given: dict[str, str]) -> bool:
    """Tell whether everything from this element on is quoted."""
    name = given.get("id", "").lower().removeprefix("x_")
    return name in TRAILING_QUOTE_IDS or (tag == "div" and bool(OUTLOOK_LINE.search(given.get("style", ""))))


def parse_html_reply(source: str) -> tuple[str, set[str]]:
    """Return the reply in an HTML body as plain text, and the Content-IDs of its images."""
    reader = ReplyReader()
    reader.feed(CONDITIONAL_COMMENT.sub("", source))
    reader.add_unclosed_rest()
    return parse_text_reply(normalize_whitespace("".join(reader.out))), reader.images


def parse_text_reply(source: str) -> str:
    """Return the reply in a plain-text body."""
    text = normalize_whitespace(source)
    above, below = split_at_quote(text)
    found = [remove_quotes_and_signature(above)]
    if not found[0] or QUOTED_LINE.search(below):
        # If quoted lines are marked, the unmarked lines between them belong to the reply.
        found += texts_between_quotes(below)
    return "\n\n".join(filter(None, found)) or text


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
        above, text = split_at_quote(text)
        texts.append(remove_quotes_and_signature(above))
    return [*texts, remove_quotes_and_signature(text)]


def split_at_quote(text: str) -> tuple[str, str]:
    """Return the texts above and below the first quote header."""
    searched, rest = text[:MAX_SEARCHED_LENGTH], text[MAX_SEARCHED_LENGTH:]
    lines = searched.split("\n")
    found = quote_headers.find_quote_header(lines)
    if found is None:
        return text, ""
    begin, end = found
    return "\n".join(lines[:begin]), "\n".join(lines[end:]) + rest


def remove_quotes_and_signature(text: str) -> str:
    """Return text without quoted lines, the signature below "--", and the line that a mail program adds."""
    lines = [line for line in text.split("\n") if not line.startswith(">")]
    lines = SIGNATURE.split("\n" + "\n".join(lines), maxsplit=1)[0].strip().split("\n")
    while lines and is_noise_line(lines[-1].strip(), is_only=len(lines) == 1):
        lines.pop()
    return normalize_whitespace("\n".join(lines))


def is_noise_line(line: str, *, is_only: bool) -> bool:
    """Tell whether a last line is empty, a drawn separator, or added by the mail program."""
    return not line or bool(SEPARATOR.fullmatch(line)) or (not is_only and bool(MOBILE_SIGNATURE.fullmatch(line)))


def normalize_whitespace(text: str) -> str:
    """Strip the ends of lines, and reduce several empty lines to one."""
    lines = (line.replace("\xa0", " ").rstrip() for line in re.sub(r"\r\n?", "\n", text).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

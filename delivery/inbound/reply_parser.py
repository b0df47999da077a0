"""What somebody wrote in a mail, without what they wrote it under: quotes, signatures, "Sent from my phone".

The HTML of a mail says where its quotes are, in each program's own way, so it is asked first. The text is asked for the
lines programs put above a quote, in the languages mail-parser-reply knows. Where nothing would be left, everything is:
words are never lost to a guess.
"""

import re
from collections import Counter
from functools import cache
from html import unescape

from mailparser_reply.constants import MAIL_LANGUAGES
from mailparser_reply.parser import EmailMessage as Languages

from messaging.content.plain_text import PlainTextParser

# The expressions of the library take the square of a line's length, and mail is written by strangers.
LONGEST_LINE = 1_000
LONGEST_SEARCHED = 50_000
MOST_QUOTES = 20
# Of Polish, one line such as "Do: …" would do for the head of a quote.
LANGUAGES = sorted(MAIL_LANGUAGES.keys() - {"pl"})
POLISH = r"^(?:> ?)*(?:W dniu|Dnia) .{5,120}(?:napisał|pisze)(?:\(a\))?:$"
# In any language: a line or two that end in a colon, and right below them the quote.
ATTRIBUTION = r"(?P<attribution>^[^>\n].{0,300}(?:\n[^>\n].{0,200})?[:\uff1a]\W{0,5}\n(?:[ \t]*\n)?(?=>))"
# Outlook's four lines, in languages the library does not know them in.
OUTLOOKS = (
    ("Od", "Wysłano", "Do", "Temat"),
    ("От", "Отправлено|Дата", "Кому", "Тема"),
    ("Від", "Надіслано|Дата", "Кому", "Тема"),
    ("Lähettäjä", "Lähetetty", "Vastaanottaja", "Aihe"),
    ("Kimden", "Gönderildi|Tarih", "Kime", "Konu"),
    ("Feladó", "Elküldve", "Címzett", "Tárgy"),
    ("De la", "Trimis", "Către", "Subiect"),
    ("Από", "Στάλθηκε|Ημερομηνία", "Προς", "Θέμα"),
    ("差出人", "送信日時|日付", "宛先", "件名"),
)
BLOCKS = "|".join(
    rf"^[* ]*(?:{sender})[* ]?:.{{0,300}}\n[* ]*(?:{sent})[* ]?:.{{0,300}}\n[* ]*(?:{to})[* ]?:.{{0,300}}\n"
    rf"(?:.{{0,300}}\n)?[* ]*(?:{subject})[* ]?:.{{0,300}}$"
    for sender, sent, to, subject in OUTLOOKS
)
# Whoever writes "On Friday I wrote:" or "From: Dublin, To: Paris" quotes nothing.
DATED = re.compile(r"@|\d{4}|\d[.:/-]\d|[_*=-]{3}")
SUBJECTS = re.compile(
    r"subject|betreff|předmět|emne|asunto|objet|oggetto|件名|제목|onderwerp|temat|ämne|主题|тема", re.IGNORECASE
)
KEYWORD = re.compile(r"^[> *]*([^\W\d_]+) ?:", re.MULTILINE)
SENT_FROM = "|".join(words["sent_from"] for words in MAIL_LANGUAGES.values() if words.get("sent_from"))
BY_PROGRAM = re.compile(
    rf"(?:{SENT_FROM}|Sent (?:from|with)|Get Outlook for|Von meinem|Envoyé (?:de|depuis) mon"
    r"|Enviado (?:desde mi|do meu)|Verzonden vanaf|Verstuurd vanaf|Skickat från|Sendt fra|Wysłane z"
    r"|Отправлено |Lähetetty|iPhoneから|发自我的"
    r"|Outlook für (?:iOS|Android)|Télécharger Outlook).{0,80}",
    re.IGNORECASE,
)
QUOTED = re.compile(r"^>", re.MULTILINE)
SIGNATURE = re.compile(r"\n-- ?\n")
# A line that was drawn, with or without words in it, such as "Original Message".
SEPARATOR = re.compile(r"[_*=-]{3,}|-{3,} ?[\w ]{3,40}-{3,}")

# Elements that hold a quote and nothing else, by class; blockquotes that are cited come on top.
QUOTES = {"gmail_attr", "yahoo_quoted", "moz-cite-prefix", "protonmail_quote", "tutanota_quote", "zmail_extra"}
# Elements that begin a quote that goes on to the end.
LAST_WORDS = {"appendonsend", "divrplyfwdmsg", "mail-editor-reference-message-container", "replysplit"}
# The line that Outlook for Windows draws above the head of a quote.
OUTLOOK_LINE = re.compile(r"border:\s*none;\s*border-top:\s*solid #(?:e1e1e1|b5c4df)", re.IGNORECASE)
NOT_SHOWN = {"head", "script", "style", "title", "template"}
NO_MARGIN = re.compile(r"margin(?:-\w+)?:\s*0")
# What only Outlook reads, and the parser may stumble over; one that ends a comment leaves it its end.
MARKED = re.compile(r"<!\[(?:[^>]{0,500}(?<!--)>)?")
TAG = re.compile(r"<[^<>]*>")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


class ReplyReader(PlainTextParser):
    """Reads the HTML of a mail as plain text, and leaves out its quotes."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: set[str] = set()
        # What is open within a quote, in order and by number.
        self.left_out: list[str] = []
        self.open: Counter[str] = Counter()
        self.ended = False
        self.paragraph_is_a_line = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if not self.ended and not self.left_out and ends_all(tag, given):
            self.ended = True
        if self.ended:
            return
        if self.left_out or tag in NOT_SHOWN or is_quote(tag, given):
            if tag not in VOID:
                self.left_out.append(tag)
                self.open[tag] += 1
        elif tag == "img":
            self.picture(given)
        elif self.begins_a_line(tag, given):
            self.line()
        else:
            super().handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self.ended:
            return
        if self.open[tag]:
            # What was opened within and never closed ends with it.
            ended = ""
            while ended != tag:
                ended = self.left_out.pop()
                self.open[ended] -= 1
        elif self.left_out:
            return
        elif tag == "div" or (tag == "p" and self.paragraph_is_a_line):
            self.line()
        else:
            super().handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        if not self.ended and not self.left_out:
            super().handle_data(data.replace("\xa0", " ") if data.strip("\xa0") else "\xa0")

    def handle_comment(self, data: str) -> None:
        """Say nothing of comments, such as what only Outlook reads."""

    def finish(self) -> None:
        """Take for words what is left since a tag or a comment that never ends.

        To close the parser takes the square of that, as it looks for the end of each "<" in all the rest.
        """
        unended, self.rawdata = self.rawdata, ""
        self.handle_data(unescape(TAG.sub(" ", unended)))

    def begins_a_line(self, tag: str, given: dict[str, str]) -> bool:
        """Whether an element is a line: a block, or a paragraph drawn without room around it."""
        if tag == "p":
            self.paragraph_is_a_line = "msonormal" in given.get("class", "").lower() or bool(
                NO_MARGIN.search(given.get("style", ""))
            )
        return tag == "div" or (tag == "p" and self.paragraph_is_a_line)

    def line(self) -> None:
        """Be at the beginning of a line."""
        if self.out and not self.out[-1].endswith("\n"):
            self.write(self.new_line)

    def picture(self, given: dict[str, str]) -> None:
        """Note a picture that came with the mail; of one from elsewhere only a short name is words, as of an emoji."""
        source = given.get("src", "")
        if source.lower().startswith("cid:"):
            self.pictures.add(source[4:])
        elif len(given.get("alt", "")) <= 4:
            self.write(given.get("alt", ""))


def is_quote(tag: str, given: dict[str, str]) -> bool:
    """Whether an element holds what the writer answers, and nothing of theirs."""
    classes = set(given.get("class", "").lower().split())
    if tag == "blockquote":
        return given.get("type", "").lower() == "cite" or "cite" in given or "gmail_quote" in classes
    return bool(classes & QUOTES) or given.get("id", "").lower().startswith("yahoo_quoted")


def ends_all(tag: str, given: dict[str, str]) -> bool:
    """Whether from this element on there is only what the writer answers."""
    name = given.get("id", "").lower().removeprefix("x_")
    return name in LAST_WORDS or (tag == "div" and bool(OUTLOOK_LINE.search(given.get("style", ""))))


def of_html(source: str) -> tuple[str, set[str]]:
    """What somebody wrote in the HTML of a mail, as plain text, and the pictures among it by their Content-ID."""
    reader = ReplyReader()
    reader.feed(MARKED.sub("", source))
    reader.finish()
    return of_text(tidy("".join(reader.out))), reader.pictures


def of_text(source: str) -> str:
    """What somebody wrote in the text of a mail."""
    text = tidy(source)
    above, below = apart(text)
    found = [finish(above)]
    if not found[0] or QUOTED.search(below):
        # Between lines that are marked as quoted, all others are the writer's own.
        found += between(below)
    return "\n\n".join(filter(None, found)) or text


def between(text: str) -> list[str]:
    """What stands between quotes that begin with a head each."""
    words: list[str] = []
    while text and len(words) < MOST_QUOTES:
        above, text = apart(text)
        words.append(finish(above))
    return [*words, finish(text)]


def apart(text: str) -> tuple[str, str]:
    """What stands above the head of the first quote, and what below."""
    lines = text[:LONGEST_SEARCHED].split("\n")
    # A line that is too long is no head; nothing in its place keeps the others where they are.
    searched = "\n".join(line if len(line) <= LONGEST_LINE else "\n" * len(line) for line in lines)
    for found in heads().finditer(searched):
        if is_head(found[0], above_a_quote=bool(found["attribution"])):
            return text[: found.start()], text[found.end() :]
    return text, ""


@cache
def heads() -> re.Pattern[str]:
    """What programs put above a quote, in many languages."""
    return re.compile(
        f"{Languages(text='', languages=LANGUAGES).HEADER_REGEX.pattern}|{POLISH}|{BLOCKS}|{ATTRIBUTION}", re.M | re.I
    )


def is_head(found: str, *, above_a_quote: bool) -> bool:
    """Whether such lines are a quote's head for sure: From and To may stand in anybody's text."""
    if above_a_quote:
        return "@" in found
    names = {name.lower() for name in KEYWORD.findall(found)}
    if len(names) < 2:
        return bool(DATED.search(found))
    return "@" in found or (len(names) > 2 and bool(SUBJECTS.search(found)))


def finish(text: str) -> str:
    """Leave out quoted lines, the signature under its dashes, and what a program signed with."""
    lines = [line for line in text.split("\n") if not line.startswith(">")]
    lines = SIGNATURE.split("\n" + "\n".join(lines), maxsplit=1)[0].strip().split("\n")
    while lines and is_no_word(lines[-1].strip(), is_only=len(lines) == 1):
        lines.pop()
    return tidy("\n".join(lines))


def is_no_word(line: str, *, is_only: bool) -> bool:
    """Whether a last line is nobody's: empty, drawn, or the program's own."""
    return not line or bool(SEPARATOR.fullmatch(line)) or (not is_only and bool(BY_PROGRAM.fullmatch(line)))


def tidy(text: str) -> str:
    """Lines without white space at their ends, and at most one empty one in a row."""
    lines = (line.replace("\xa0", " ").rstrip() for line in re.sub(r"\r\n?", "\n", text).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

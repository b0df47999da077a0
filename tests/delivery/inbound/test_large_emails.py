"""Emails crafted to keep a worker busy for hours: each is parsed within seconds and in little memory."""

from time import process_time

import pytest

from delivery.inbound import dsn
from delivery.inbound.message import InboundEmail, NotAnEmail
from delivery.inbound.reply_parser import parse_html_reply, parse_text_reply

# Far below the maximum size of an email.
LONG = 300_000
HTML = {
    "nothing but brackets": "<",
    "tags that never end": "<a ",
    "values that never end": "<a x='",
    "values that end in the next tag": "<a x='>",
    "comments that never end": "<!--",
    "comments that never end, in brackets": "<!-- >",
    "sections that never end": "<![CDATA[>",
    "conditions that never end": "<![if x>",
    "instructions that never end": "<?x >",
    "declarations that never end": "<!x ",
    "elements that never end": "<div>",
    "ends of nothing": "</div>",
    "references that never end": "&#1",
    "quotes within quotes": "<blockquote><br>",
    "lists within lists": "<ul><li>",
    "quotes that are cited": "<blockquote type=cite>",
    "links within links": "<a href=x>",
    "styles": "<p style='margin:0;margin:1'>",
}
TEXT = {
    "heads of quotes": "On a, b wrote",
    "lines of quotes": "> ",
    "nothing but quotes": ">",
    "dashes": "-",
    "signatures": "-- \n",
    "names": "From: a\n",
    "programs": "Sent from ",
    "white space": " ",
}
HEADERS = {
    "From": ["<", "a@", '"', "(", "=?utf-8?q?a?= "],
    "References": ["<a@b> ", "<"],
    "Content-Type": ["text/plain; ", "a=b; "],
    "Subject": ["=?utf-8?q?=41?= ", "=?", "**a***"],
}
LONG_HEADER = 2_000_000


def within_seconds(read, *given) -> object:
    began = process_time()
    found = read(*given)
    assert process_time() - began < 10
    return found


@pytest.mark.parametrize("what", HTML)
def test_html_is_parsed_within_seconds(what):
    words = within_seconds(parse_html_reply, f"<p>Hello</p>{HTML[what] * (LONG // len(HTML[what]))}").text

    assert words.startswith("Hello") or not words
    assert len(words) < 20 * LONG


@pytest.mark.parametrize("what", TEXT)
def test_text_is_parsed_within_seconds(what):
    assert within_seconds(parse_text_reply, f"Hello\n{TEXT[what] * (LONG // len(TEXT[what]))}").text.startswith("Hello")


@pytest.mark.parametrize(("name", "again"), [(name, again) for name in HEADERS for again in HEADERS[name]])
def test_headers_are_parsed_within_seconds(name, again):
    source = f"{name}: {again * (LONG_HEADER // len(again))}\nDate: now\n\nHello".encode()

    def read_letter() -> list[object]:
        letter = InboundEmail.parse(source)
        return [
            letter.message_id,
            letter.sender,
            letter.recipients,
            letter.answered_ids,
            letter.auto_reply_reason,
            letter.reply_content,
        ]

    within_seconds(read_letter)


@pytest.mark.parametrize(
    "again", ["Content-Type: message/rfc822\n\n", "Content-Type: multipart/mixed; boundary=b{0}\n\n--b{0}\n"]
)
def test_endlessly_nested_email_is_refused(again):
    source = "Date: now\n" + "".join(again.format(number) for number in range(5000))

    with pytest.raises(NotAnEmail, match="nested too deeply"):
        InboundEmail.parse(source.encode())


def test_report_about_many_recipients_is_truncated(at):
    told = "Final-Recipient: rfc822; a@x.example\nAction: failed\n\n" * 10_000
    report = (
        f"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nX: y\n\n{told}"
    )
    letter = InboundEmail.parse(f"Date: now\n{report}\n--b--\n".encode())

    assert len(within_seconds(lambda: dsn.read_notices(letter, at=at))) < 100


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("<p>1 < 2 and 3 > 2</p><blockquote type=cite>Old</blockquote>", "1 < 2 and 3 > 2"),
        ("<div>New<br clear='>'></div><blockquote class=gmail_quote>Old</blockquote>", "New"),
        ("<div>New</div><div id='divRplyFwdMsg' title='>'>Old</div>", "New"),
        ("<p>New <img src='cid:a@b' alt='>'></p><?xml version='1'><title>x</title>", "New"),
    ],
)
def test_malformed_html_reads_as_in_a_browser(html, words):
    assert parse_html_reply(html).text == words

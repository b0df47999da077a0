"""Reply parser: separates the reply from the quote in any language and at any length, and never loses text."""
# ruff: noqa: RUF001 - some languages have similar letters

from time import process_time

import pytest

from delivery.inbound import reply_parser

ATTRIBUTIONS = [
    "El lun, 4 may 2026 a las 10:00, Ada (<ada@acme.example>) escribió:",
    "Op ma 4 mei 2026 om 10:00 schreef Ada <ada@acme.example>:",
    "Em seg., 4 de mai. de 2026 às 10:00, Ada <ada@acme.example> escreveu:",
    "pon., 4 maj 2026 o 10:00 Ada <ada@acme.example> napisał(a):",
    "ma 4. toukok. 2026 klo 10.00 Ada (ada@acme.example) kirjoitti:",
    "пн, 4 мая 2026 г. в 10:00, Ada <ada@acme.example>:",
    "Ada <ada@acme.example> 于2026年5月4日周一 10:00写道：",
    "2026년 5월 4일 (월) 오전 10:00, Ada <ada@acme.example>님이 작성:",
    "Στις Δευ 4 Μαΐ 2026 στις 10:00 π.μ., ο/η Ada\n<ada@acme.example> έγραψε:",
    "\u202bבתאריך יום ב׳, 4 במאי 2026 ב-10:00 מאת \u202aAda\u202c\u200f <\u202aada@acme.example\u202c\u200f>:\u202c",
]


@pytest.mark.parametrize("head", ATTRIBUTIONS)
def test_line_above_a_quote_is_removed_in_any_language(head):
    assert reply_parser.parse_text_reply(f"My answer.\n\n{head}\n\n> Hello\n> there\n").text == "My answer."


@pytest.mark.parametrize(
    "head",
    [
        "Od: Ada <ada@acme.example>\nWysłano: poniedziałek, 4 maja 2026 10:00\nDo: Ann\nTemat: Hi",
        "От: Ada <ada@acme.example>\nОтправлено: 4 мая 2026 г. 10:00\nКому: Ann\nТема: Hi",
        "差出人: Ada <ada@acme.example>\n送信日時: 2026年5月4日 10:00\n宛先: Ann\n件名: Hi",
    ],
)
def test_outlook_header_ends_the_reply_in_more_languages(head):
    assert reply_parser.parse_text_reply(f"My answer.\n\n{head}\n\nHello there\n").text == "My answer."


def test_answers_between_quoted_lines_are_kept():
    head = "On Mon, May 4, 2026 at 10:00 AM Ada <ada@acme.example> wrote:"
    text = f"See below.\n\n{head}\n> How many?\n\nTwo.\n\n> And when?\n\nToday.\n"

    assert reply_parser.parse_text_reply(text).text == "See below.\n\nTwo.\n\nToday."


@pytest.mark.parametrize(
    "text",
    [
        "Hello Ada,\n\nOn Friday I wrote:\n\nplease help me.\n\nNobody answered!",
        "Please book:\nFrom: Dublin\nTo: Paris\nDate: 3 May\nfor two.",
        "My question of 10:30 in 2026:\n\nwhy?",
    ],
)
def test_text_that_resembles_a_quote_header_is_kept(text):
    assert reply_parser.parse_text_reply(text).text == text


@pytest.mark.parametrize(
    "line", ["Von meinem iPhone gesendet", "Envoyé de mon iPhone", "Sent with Proton Mail secure email."]
)
def test_mobile_signature_is_removed_in_more_languages(line):
    assert reply_parser.parse_text_reply(f"Ok.\n\n{line}").text == "Ok."


@pytest.mark.parametrize(
    "line", ["Sent from the shop on Monday.", "Sent via DHL yesterday, number 4711", "Verzonden met DHL gisteren."]
)
def test_last_sentence_that_resembles_a_mobile_signature_is_kept(line):
    assert reply_parser.parse_text_reply(f"Ok.\n\n{line}").text == f"Ok.\n\n{line}"


OUTLOOK_HEADER = "From: Ada <ada@acme.example>\nSent: Monday, May 4, 2026 10:00\nTo: Ann\nSubject: Hi"
ATTRIBUTION = "On Mon, May 4, 2026 at 10:00 AM Ada <ada@acme.example> wrote:"
HTML_HEADER = "<p><b>From:</b> Ada &lt;ada@acme.example&gt;<br><b>Sent:</b> 4 May 2026<br><b>Subject:</b> Hi</p>"
TEXT_REPLIES = {
    "answer below Outlook's header": (f"See below.\n\n{OUTLOOK_HEADER}\n\nHow many?\n\nTwo.", "See below.", True),
    "answer below an attribution": (f"See below.\n\n{ATTRIBUTION}\n\nHow many?\n\nTwo.", "See below.", True),
    "answer below a drawn line": ("See below.\n\n-----Original Message-----\nHow many?\nTwo.", "See below.", True),
    "answer below the signature": ("See below.\n\n-- \nAnn\n\nTwo.", "See below.", True),
    "a line of the writer": ("See below.\n--\nTwo.", "See below.", True),
    "signature between answer and quote": (f"Two.\n-- \nAnn Two\n\n{ATTRIBUTION}\n> How many?", "Two.", True),
    "answer below marked lines": (f"{ATTRIBUTION}\n> How many?\n\nTwo.", "Two.", False),
    "no own words above": (f"{OUTLOOK_HEADER}\n\nHow many?\n\nTwo.", "How many?\n\nTwo.", False),
    "only a header below": (f"Two.\n\n{ATTRIBUTION}\n", "Two.", False),
}
HTML_REPLIES = {
    "Outlook on the web": (
        f'<div>Below.</div><div id="appendonsend"></div><hr><div id="divRplyFwdMsg">{HTML_HEADER}</div><p>How?</p>Two.',
        "Below.",
        True,
    ),
    "Outlook on the web, no words above": (f'<div id="divRplyFwdMsg">{HTML_HEADER}</div><p>Two.</p>', "Two.", False),
    "Outlook for Windows": (
        '<p class="MsoNormal">Below.</p><div style="border:none;border-top:solid #E1E1E1 1.0pt">'
        f"{HTML_HEADER}</div><p>How many?</p><p>Two.</p>",
        "Below.",
        True,
    ),
    "Yahoo": (
        f'<div>Below.</div><div class="yahoo_quoted"><div>{ATTRIBUTION}</div><div>How?<p>Two.</div></div>',
        "Below.",
        True,
    ),
    "Proton": (
        f'Below.<div class="protonmail_quote">{ATTRIBUTION}<blockquote type="cite">How?</blockquote>Two.</div>',
        "Below.",
        True,
    ),
    "Proton, nothing below": (
        f'Two.<div class="protonmail_quote">{ATTRIBUTION}<blockquote type="cite">How?</blockquote><br></div>',
        "Two.",
        False,
    ),
    "below a cited quote": (f'{ATTRIBUTION}<blockquote type="cite">How?</blockquote><p>Two.</p>', "Two.", False),
    "above and below a cited quote": (
        f'<p>Below.</p>{ATTRIBUTION}<blockquote type="cite">How?</blockquote><p>Two.</p>',
        "Below.\n\nTwo.",
        False,
    ),
    "between cited quotes": (
        '<blockquote type="cite">How?</blockquote>Two.<blockquote type="cite">When?</blockquote>',
        "Two.",
        False,
    ),
    "indented": ('Yes.<blockquote style="margin:0 0 0 40px;border:none">Two.</blockquote>', "Yes.\nTwo.", False),
    "a blockquote of the writer": ("<p>He says:</p><blockquote>Two.</blockquote><p>Ok.</p>", "He says:\n\nOk.", True),
    "unclosed elements in a quote": (
        '<div class="tutanota_quote"><pre><blockquote>How?</div><p>Ok.</p><p>Two.</p>',
        "Ok.\n\nTwo.",
        True,
    ),
    "below the end of a comment": (
        '<p>Two.</p><!-- --><div id="x_divRplyFwdMsg"><script>alert(1)</script></div>',
        "Two.",
        False,
    ),
}


def test_words_below_an_unmarked_quote_are_folded_and_never_lost():
    replies = [
        *((name, reply_parser.parse_text_reply(body), own, folds) for name, (body, own, folds) in TEXT_REPLIES.items()),
        *((name, reply_parser.parse_html_reply(body), own, folds) for name, (body, own, folds) in HTML_REPLIES.items()),
    ]

    assert [
        (name, reply)
        for name, reply, own, folds in replies
        if reply.text != own or bool(reply.folded) != folds or "Two." not in f"{reply.text} {reply.folded} "
    ] == []


def test_image_of_an_unmarked_quote_belongs_to_a_reply_without_other_words():
    below = f'<div id="divRplyFwdMsg">{HTML_HEADER}</div><p>How?</p><img src="cid:answer">'

    assert reply_parser.parse_html_reply(below).images == {"answer"}
    assert reply_parser.parse_html_reply(f"Below.{below}").images == set()


@pytest.mark.parametrize("begins", ["<!--", "</", "<?", "<![CDATA[", "<![if ", "<a x='", "<!x", "<"])
def test_unclosed_html_is_parsed_in_linear_time(begins):
    started = process_time()

    words = reply_parser.parse_html_reply(f"<p>Hello</p>{begins * 100_000}").text

    assert words.startswith("Hello")
    # Takes minutes if each start searches all of the rest for its end.
    assert process_time() - started < 15

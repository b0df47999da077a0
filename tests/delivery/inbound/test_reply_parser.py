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
    assert reply_parser.parse_text_reply(f"My answer.\n\n{head}\n\n> Hello\n> there\n") == "My answer."


@pytest.mark.parametrize(
    "head",
    [
        "Od: Ada <ada@acme.example>\nWysłano: poniedziałek, 4 maja 2026 10:00\nDo: Ann\nTemat: Hi",
        "От: Ada <ada@acme.example>\nОтправлено: 4 мая 2026 г. 10:00\nКому: Ann\nТема: Hi",
        "差出人: Ada <ada@acme.example>\n送信日時: 2026年5月4日 10:00\n宛先: Ann\n件名: Hi",
    ],
)
def test_outlook_header_ends_the_reply_in_more_languages(head):
    assert reply_parser.parse_text_reply(f"My answer.\n\n{head}\n\nHello there\n") == "My answer."


def test_answers_between_quoted_lines_are_kept():
    head = "On Mon, May 4, 2026 at 10:00 AM Ada <ada@acme.example> wrote:"
    text = f"See below.\n\n{head}\n> How many?\n\nTwo.\n\n> And when?\n\nToday.\n"

    assert reply_parser.parse_text_reply(text) == "See below.\n\nTwo.\n\nToday."


@pytest.mark.parametrize(
    "text",
    [
        "Hello Ada,\n\nOn Friday I wrote:\n\nplease help me.\n\nNobody answered!",
        "Please book:\nFrom: Dublin\nTo: Paris\nDate: 3 May\nfor two.",
        "My question of 10:30 in 2026:\n\nwhy?",
    ],
)
def test_text_that_resembles_a_quote_header_is_kept(text):
    assert reply_parser.parse_text_reply(text) == text


@pytest.mark.parametrize(
    "line", ["Von meinem iPhone gesendet", "Envoyé de mon iPhone", "Sent with Proton Mail secure email."]
)
def test_mobile_signature_is_removed_in_more_languages(line):
    assert reply_parser.parse_text_reply(f"Ok.\n\n{line}") == "Ok."


@pytest.mark.parametrize("begins", ["<!--", "</", "<?", "<![CDATA[", "<![if ", "<a x='", "<!x", "<"])
def test_unclosed_html_is_parsed_in_linear_time(begins):
    started = process_time()

    words, _ = reply_parser.parse_html_reply(f"<p>Hello</p>{begins * 100_000}")

    assert words.startswith("Hello")
    # Takes minutes if each start searches all of the rest for its end.
    assert process_time() - started < 15

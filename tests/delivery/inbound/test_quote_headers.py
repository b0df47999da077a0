"""Quote headers of mail programs in many languages; a writer's own sentences are not headers."""
# ruff: noqa: RUF001 - some languages have similar letters

from time import process_time

import pytest

from delivery.inbound.reply_parser import parse_text_reply, split_doubtful_quote

ADA = "Ada Lee <ada@acme.example>"
# By language: lines with author and date, which may stand above a quote that is not marked.
LINES = {
    "English": [
        f"On Mon, May 4, 2026 at 10:00 AM {ADA} wrote:",
        "On Mon, May 4, 2026 at 10:00 AM Ada Lee\n<ada@acme.example> wrote:",
    ],
    "German": [
        f"Am Mo., 4. Mai 2026 um 10:00 Uhr schrieb {ADA}:",
        f"Am 04.05.2026 um 10:00 schrieb {ADA}:",
        "Am 04.05.26 um 10:00 schrieb Ada Lee:",
        f"{ADA} schrieb am Mo., 4. Mai 2026, 10:00:",
    ],
    "Italian": [
        f"Il giorno lun 4 mag 2026 alle ore 10:00 {ADA} ha scritto:",
        "Il 04/05/2026 10:00, Ada Lee ha scritto:",
    ],
    "Portuguese": [
        f"{ADA} escreveu no dia segunda, 4/05/2026 à(s) 10:00:",
        f"Em seg., 4 de mai. de 2026 às 10:00, {ADA} escreveu:",
    ],
    "Dutch": [
        f"Op ma 4 mei 2026 om 10:00 schreef {ADA}:",
        f"Op 4 mei 2026 om 10:00 heeft {ADA} het volgende geschreven:",
        "Op 04-05-2026 om 10:00 schreef Ada Lee:",
    ],
    "Polish": [
        f"pon., 4 maj 2026 o 10:00 {ADA} napisał(a):",
        f"Wiadomość napisana przez {ADA} w dniu 04.05.2026, o godz. 10:00:",
        "W dniu 4.05.2026 o 10:00, Ada Lee pisze:",
    ],
    "Czech": [
        f"po 4. 5. 2026 v 10:00 odesílatel {ADA} napsal:",
        "Dne 04. 05. 26 v 10:00 Ada Lee napsal(a):",
        f"4. 5. 2026 v 10:00, {ADA}:",
    ],
    "Finnish": [
        "ma 4. toukok. 2026 klo 10.00 Ada Lee (ada@acme.example) kirjoitti:",
        f"{ADA} kirjoitti 4.5.2026 kello 10.00:",
    ],
    "Hungarian": [
        f"{ADA} ezt írta (időpont: 2026. máj. 4., H, 10:00):",
        "2026. 05. 04. 10:00 keltezéssel, Ada Lee írta:",
    ],
    "Russian": [
        f"пн, 4 мая 2026 г. в 10:00, {ADA}:",
        f"Понедельник, 4 мая 2026, 10:00 +03:00 от {ADA}:",
        '04.05.2026, 10:00, "Ada Lee" <ada@acme.example>:',
        "04.05.2026 10:00, Ada Lee пишет:",
    ],
    "Norwegian": [f"man. 4. mai 2026 kl. 10:00 skrev {ADA}:", "Den 04.05.2026 10:00, skrev Ada Lee:"],
    "Danish": [f"Den man. 4. maj 2026 kl. 10.00 skrev {ADA}:"],
    "Swedish": [f"Den mån 4 maj 2026 kl 10:00 skrev {ADA}:"],
    "Spanish": [f"El lun, 4 may 2026 a las 10:00, {ADA} escribió:"],
    "French": [f"Le lun. 4 mai 2026 à 10:00, {ADA} a écrit :"],
    "Ukrainian": [f"пн, 4 трав. 2026 р. о 10:00 {ADA} пише:"],
    "Turkish": [f"{ADA}, 4 May 2026 Pzt, 10:00 tarihinde şunu yazdı:"],
    "Romanian": [f"lun., 4 mai 2026, 10:00 {ADA} a scris:"],
}
# The labels of Outlook, GMX, Seznam and others: from, sent, to, subject.
BLOCKS = {
    "English": "From|Sent|To|Subject",
    "German": "Von|Gesendet|An|Betreff",
    "German (GMX)": "Gesendet|Von|An|Betreff",
    "Italian": "Da|Inviato|A|Oggetto",
    "Portuguese": "De|Enviado|Para|Assunto",
    "Portuguese (Brazil)": "De|Enviada em|Para|Assunto",
    "Dutch": "Van|Verzonden|Aan|Onderwerp",
    "Polish": "Od|Wysłano|Do|Temat",
    "Czech": "Od|Odesláno|Komu|Předmět",
    "Czech (Seznam)": "Od|Komu|Datum|Předmět",
    "Slovak": "Od|Odoslané|Komu|Predmet",
    "Finnish": "Lähettäjä|Lähetetty|Vastaanottaja|Aihe",
    "Hungarian": "Feladó|Elküldve|Címzett|Tárgy",
    "Russian": "От|Отправлено|Кому|Тема",
    "Norwegian": "Fra|Sendt|Til|Emne",
    "Swedish": "Från|Skickat|Till|Ämne",
    "Spanish": "De|Enviado|Para|Asunto",
    "French": "De |Envoyé |À |Objet ",
    "Japanese": "差出人|送信日時|宛先|件名",
    "Korean": "보낸 사람|보낸 날짜|받는 사람|제목",
    "Chinese": "发件人|发送时间|收件人|主题",
}
DRAWN = [
    "-----Original Message-----",
    "-------- Ursprüngliche Nachricht --------",
    "---------- Původní e-mail ----------",
    "-----Messaggio originale-----",
    "---------- Forwarded message ---------",
]
ANSWER = "My answer.\nThanks, Ann"
QUOTED = "Hello Ann,\n\nthis is how you begin.\n"


def block(labels: str) -> str:
    values = (ADA, "4. 5. 2026 10:00", "Ann <ann@x.example>", "Welcome")
    return "\n".join(f"{label}: {value}" for label, value in zip(labels.split("|"), values, strict=True))


def headers() -> list[tuple[str, str]]:
    lines = [(language, line) for language, found in LINES.items() for line in found]
    blocks = [(language, block(labels)) for language, labels in BLOCKS.items()]
    drawn = [(line, f"{line}\n{block(BLOCKS['English'])}") for line in DRAWN]
    return [
        *lines,
        *blocks,
        *drawn,
        ("Outlook's phone", "________________________________\n" + block(BLOCKS["English"])),
    ]


@pytest.mark.parametrize("between", ["\n\n", "\n"], ids=["with an empty line", "without an empty line"])
@pytest.mark.parametrize("is_marked", [False, True], ids=["not marked", "marked"])
def test_quote_is_removed_and_the_line_above_it_is_kept(is_marked, between):
    quote = "".join(f"> {line}\n" for line in QUOTED.split("\n")) if is_marked else QUOTED
    wrong = [
        (name, reply)
        for name, header in headers()
        if (reply := parse_text_reply(f"{ANSWER}{between}{header}{between}{quote}").text) != ANSWER
    ]

    assert wrong == []


OWN_SENTENCES = [
    "Hello Ada,\n\nOn Friday I wrote:\n\nplease help me.",
    "As I wrote on 4 May 2026 at 10:00:\n\nplease help me.",
    "Ich schrieb am 4. Mai 2026:\n\nbitte helfen Sie mir.",
    "I spoke to Bob <bob@x.example> on 3 May 2026:\nhe agrees.",
    "On 3 May 2026 at 10:00 I wrote to Bob <bob@x.example>:\nno answer.",
    "Please write to these people before 3 May 2026:\nBob and Bea.",
    "My question of 10:30 in 2026:\n\nwhy?",
    "Please book:\nFrom: Dublin\nTo: Paris\nDate: 3 May\nfor two.",
    "From: Ann\nSubject: my order\nIt is late.",
    "We need:\n- a table\n- a chair",
    "To: everybody\nFrom: me",
]


def test_own_sentences_are_kept():
    assert [text for text in OWN_SENTENCES if parse_text_reply(text).text != text] == []


DOUBTFUL_HEADERS = [
    "Ada Lee wrote:",
    "Ada Lee <ada@acme.example>, 04.05.2026 10:00, to Ann:",
    "From: Ada Lee\nSubject: Welcome",
    "From: ada@acme.example\nTo: ann@x.example",
    "----- Nuntium primum -----",
]


def test_text_below_a_doubtful_header_is_kept_and_told_apart():
    for header in DOUBTFUL_HEADERS:
        text = f"{ANSWER}\n\n{header}\n\nHello Ann"
        assert parse_text_reply(text).text == text, header
        assert split_doubtful_quote(text) == (ANSWER, f"{header}\n\nHello Ann"), header


def test_own_sentences_are_not_doubtful():
    """Neither are headers without a text above or below them: something is always shown."""
    texts = [*OWN_SENTENCES, *DOUBTFUL_HEADERS, *(f"{header}\n\nHello Ann" for header in DOUBTFUL_HEADERS)]
    texts += [f"{ANSWER}\n\nAda Lee wrote:", "We need:\n--- details ---\na table"]

    assert [text for text in texts if split_doubtful_quote(text) != (text, "")] == []


def test_answer_that_ends_in_a_colon_above_a_quoted_line_is_kept():
    text = "> first?\nyes, write to\nbob@acme.example please:\n> second?\nno:\n> third?\nok"

    assert parse_text_reply(text).text.split("\n") == ["yes, write to", "bob@acme.example please:", "no:", "ok"]


def test_long_lines_are_searched_in_linear_time():
    began = process_time()
    for piece in ("On 4 May 2026 ", "<a@", "From: ", "wrote ", "- ", "[[[", "a b ", "-----a "):
        for text in (f"{piece * 20}:\n" * 20_000, f"{piece * 100_000}:\n> x"):
            parse_text_reply(text)
            split_doubtful_quote(text)

    assert process_time() - began < 15

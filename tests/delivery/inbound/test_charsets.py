"""Untrusted charsets: those of emails are decoded, and no other reaches Python's codec registry."""

import codecs
import json
from base64 import b64encode
from collections.abc import Iterator
from encodings.aliases import aliases
from io import BytesIO
from time import process_time
from urllib.parse import quote

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.test import Client, RequestFactory

from delivery.inbound import charsets, esp_webhooks
from delivery.inbound.message import InboundEmail

# Codecs that Python knows and emails do not use; some of these take quadratic time.
NOT_OF_EMAIL = [
    *("punycode", "idna", "utf-7", "unicode_escape", "raw_unicode_escape", "undefined", "charmap", "palmos", "cp037"),
    *("hex", "zlib", "bz2", "base64", "quopri", "uu", "rot13", "nonsense"),
]
WORDS = {
    "utf-8": "Grüße – 你好",
    "UTF-16": "Grüße – 你好",
    "us-ascii": "Hello",
    "iso-8859-1": "Grüße",
    "ISO-8859-15": "5 €",
    "iso-8859-8-i": "שלום",
    "windows-1250": "Žluť",
    "Windows-1251": "Привет",
    "windows-1252": "“5 €”",
    "cp1253": "Γειά",
    "windows-1256": "مرحبا",
    "koi8-r": "Привет",
    "KOI8-U": "Привіт",
    "gb2312": "你好",
    "GBK": "你好",
    "gb18030": "你好",
    "big5": "你好",
    "Shift_JIS": "こんにちは",
    "x-sjis": "こんにちは",
    "cp932": "①こんにちは",
    "iso-2022-jp": "こんにちは",
    "euc-jp": "こんにちは",
    "euc-kr": "안녕",
    "ks_c_5601-1987": "안녕",
    "iso-2022-kr": "안녕",
    "tis-620": "สวัสดี",
    "windows-874": "สวัสดี",
    "macintosh": "Grüße",
}
# 0.4 MB of punycode take 10 seconds, and the time grows quadratically.
LONG = 400_000
SECONDS = 2


@pytest.fixture
def looked_up() -> Iterator[list[str]]:
    """Collect the unknown charsets that any code looks up."""
    asked: list[str] = []
    codecs.register(asked.append)
    yield asked
    codecs.unregister(asked.append)


def within_seconds(read) -> object:
    began = process_time()
    found = read()
    assert process_time() - began < SECONDS
    return found


def everything_of(content: bytes) -> tuple:
    """Return everything that is parsed from an email."""
    letter = InboundEmail.parse(content)
    return (
        letter.reply_content.text,
        [(file.name, len(file.content)) for file in letter.attachments],
        letter.header("Subject"),
        letter.auto_reply_reason,
        letter.recipients,
    )


def python_name(charset: str) -> str:
    return charsets.codec_of(charset)


@pytest.mark.parametrize("charset", WORDS)
def test_charsets_of_emails_are_decoded(charset):
    content = WORDS[charset].encode(python_name(charset))
    mail = b"Date: now\r\nContent-Type: text/plain; charset=%b\r\n\r\n%b" % (charset.encode(), content)
    encoded = "".join(f"={byte:02X}" for byte in content)
    header = f"Date: now\r\nSubject: =?{charset}?q?{encoded}?=\r\n\r\n".encode()
    name = (
        f"Date: now\r\nContent-Type: image/png\r\nContent-Disposition: x; filename*={charset}''{quote(content)}\r\n\r\n"
    )

    if charset != "UTF-16":  # Contains zero bytes and no plain line ends.
        assert InboundEmail.parse(mail).reply_content.text == WORDS[charset]
    assert InboundEmail.parse(header).header("Subject") == WORDS[charset]
    assert [file.name for file in InboundEmail.parse(name.encode()).attachments] == [WORDS[charset]]


# The name that a program gives, the charset in which it really writes, and its words.
WRITTEN_AS = [
    ("iso-8859-1", "cp1252", "It’s €5"),
    ("iso-8859-9", "cp1254", "“Teşekkürler”"),
    ("gb2312", "gbk", "朱镕基"),
    ("gbk", "gb18030", "€ 㐀"),
    ("shift_jis", "cp932", "①㈱髙"),
    ("big5", "big5hkscs", "着"),
    ("euc-kr", "cp949", "똠방각하"),
    ("tis-620", "cp874", "“สวัสดี”"),
    ("us-ascii", "utf-8", "Grüße"),
    ("us-ascii", "cp1252", "Grüße"),
    ("unknown-8bit", "cp1252", "Grüße"),
]


@pytest.mark.parametrize(("name", "charset", "words"), WRITTEN_AS)
def test_charset_is_the_one_that_programs_write_in_text_headers_and_file_names(name, charset, words):
    content = words.encode(charset)
    head = b"Date: now\r\n"
    text = head + b"Content-Type: text/plain; charset=%b\r\n\r\n%b" % (name.encode(), content)
    subject = head + b"Subject: =?%b?b?%b?=\r\n\r\n" % (name.encode(), b64encode(content))
    file = f"Content-Type: image/png; name*={name}''{quote(content)}\r\n\r\n".encode()

    assert InboundEmail.parse(text).reply_content.text == words
    assert InboundEmail.parse(subject).header("Subject") == words
    assert [found.name for found in InboundEmail.parse(head + file).attachments] == [words]


@pytest.mark.parametrize("charset", ["utf-8", "cp1252"])
def test_text_headers_and_file_names_without_a_charset_are_utf_8_or_windows_1252(charset):
    words = "Grüße".encode(charset)
    file = b'Content-Type: image/png\r\nContent-Disposition: attachment; filename="%b"\r\n\r\n' % words

    assert InboundEmail.parse(b"Date: now\r\n\r\n" + words).reply_content.text == "Grüße"
    assert InboundEmail.parse(b"Subject: %b\r\nDate: now\r\n\r\n" % words).header("Subject") == "Grüße"
    assert [found.name for found in InboundEmail.parse(b"Date: now\r\n" + file).attachments] == ["Grüße"]


def test_text_cut_within_a_character_is_still_utf_8():
    assert charsets.decode(b"a" + "ü".encode() * 10, "us-ascii", longest=4) == "aüüü"


@pytest.mark.parametrize("charset", NOT_OF_EMAIL)
def test_other_charsets_are_decoded_as_utf_8(charset):
    mail = f"Date: now\r\nContent-Type: text/plain; charset={charset}\r\n\r\nGrüße-x".encode()
    name = f"Date: now\r\nContent-Type: image/png; name*={charset}''Gr%C3%BC%C3%9Fe-x\r\n\r\n".encode()

    assert InboundEmail.parse(mail).reply_content.text == "Grüße-x"
    assert (
        InboundEmail.parse(f"Date: now\r\nSubject: =?{charset}?q?Gr=C3=BC=C3=9Fe-x?=\r\n\r\n".encode()).header(
            "Subject"
        )
        == "Grüße-x"
    )
    assert [file.name for file in InboundEmail.parse(name).attachments] == ["Grüße-x"]


def test_every_charset_in_the_table_decodes_in_linear_time():
    worst = (b"a", b"\xff", b"\x80\x81", b"\x1b$B", b"~{", b"\xd8\x00", b"\x8f\xa2", b"\x0e", b"-")
    for codec in charsets.CODECS:
        for piece in worst:
            within_seconds(lambda codec=codec, piece=piece: charsets.decode(piece * (LONG // len(piece)), codec))


def test_table_names_only_codecs_of_charsets():
    known = {name for name in {*aliases, *aliases.values(), *NOT_OF_EMAIL} if charsets.codec_of(name)}

    assert {charsets.codec_of(name) for name in known} <= charsets.CODECS
    assert all(codecs.lookup(codec)._is_text_encoding for codec in charsets.CODECS)
    assert not known & set(NOT_OF_EMAIL)


def test_decoding_stops_at_the_maximum_length():
    assert charsets.decode(b"a" * 50_000_000, "utf-16", longest=10) == "慡" * 10
    assert charsets.decode("你".encode() * 10, "utf-8", longest=10) == "你" * 10


# In emails


def attacks(charset: str) -> dict[str, bytes]:
    """Return one email for each place that names a charset."""
    long = b"x" * LONG
    named = charset.encode()
    attached = b'Date: now\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: '
    split = b"Content-Type: text/plain; charset*0*=%b''; charset*1=%b\r\n" % (named, named)
    return {
        "text": b"Date: now\r\nContent-Type: text/plain; charset=%b\r\n\r\n%b" % (named, long),
        "html": b"Date: now\r\nContent-Type: text/html; charset=%b\r\n\r\n<p>%b" % (named, long),
        "base64": b"Date: now\r\nContent-Transfer-Encoding: base64\r\nContent-Type: text/plain; charset=%b\r\n\r\n%b"
        % (named, b"eHh4" * (LONG // 4)),
        "subject": b"Date: now\r\nSubject: =?%b?q?%b?=\r\n\r\nHi" % (named, long),
        "many words": b"Date: now\r\nSubject: %b\r\n\r\nHi" % (b"=?%b?q?%b?= " % (named, b"x" * 70) * 5_000),
        "file name": attached + b"image/png; name*=%b''%b\r\n\r\n\r\n--b--" % (named, long),
        "file name in words": attached + b'image/png; name="=?%b?q?%b?="\r\n\r\n\r\n--b--' % (named, long),
        "name in pieces": attached
        + b"image/png; "
        + b"".join(b"name*%d*=%b''%b; " % (number, named, b"x" * 1_000) for number in range(400))
        + b"\r\n\r\n\r\n--b--",
        "boundary": b"Date: now\r\nContent-Type: multipart/mixed; boundary*=%b''%b\r\n\r\nHi" % (named, long),
        "charset of a charset": b"Date: now\r\nContent-Type: text/plain; charset*=%b''%b\r\n\r\nHi" % (named, long),
        "charset in pieces": b"Date: now\r\n%b\r\n%b" % (split, long),
        "file with no name": attached + b"image/png; charset=%b\r\n\r\n\xff%b\r\n--b--" % (named, long),
    }


@pytest.mark.parametrize("place", attacks(""))
@pytest.mark.parametrize("charset", ["punycode", "idna", "nonsense"])
def test_untrusted_charset_is_never_looked_up(looked_up, charset, place):
    within_seconds(lambda: everything_of(attacks(charset)[place]))

    assert looked_up == []


def test_largest_email_is_parsed_within_seconds():
    mail = b"Date: now\r\nContent-Type: text/plain; charset=punycode\r\n\r\n" + b"x" * (49 * 2**20)

    assert len(within_seconds(lambda: InboundEmail.parse(mail).body("plain"))) == 1_000_000


@pytest.mark.parametrize("broken", ["a*0*=x; a*=y", f"a*{'9' * 5_000}=x", "a*0=x; a*0*=y", "a*==", "*=", "charset*=''"])
@pytest.mark.parametrize("of", ["text/plain", "multipart/mixed"])
def test_malformed_parameters_are_ignored(of, broken):
    everything_of(f"Date: now\r\nContent-Type: {of}; {broken}\r\n\r\nHello".encode())


def test_many_parameters_in_many_parts_are_parsed_within_seconds():
    part = b"--b\r\nContent-Type: multipart/mixed; %b\r\n\r\n" % (b";" * 9_000)

    within_seconds(
        lambda: everything_of(b"Date: now\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 300)
    )


def test_flowed_lines_are_joined_within_seconds():
    mail = b"Date: now\r\nContent-Type: text/plain; format=flowed\r\n\r\n" + b"a \r\n" * 400_000

    within_seconds(lambda: InboundEmail.parse(mail).body("plain"))


def test_parameters_keep_their_values():
    mail = InboundEmail.parse(
        b'Date: now\r\nContent-Type: text/plain; charset="Windows-1252"; format=flowed; delsp=yes\r\n'
        b"\r\n\x93a \r\nb\x94"
    )

    assert mail.body("plain") == "“ab”"


# Through providers


def received_email(monkeypatch, provider_posts) -> InboundEmail:
    """Return the email that the webhook passes to the router."""
    taken: list[InboundEmail] = []
    monkeypatch.setattr(esp_webhooks.router, "receive", lambda letter, *, at: taken.append(letter))
    assert provider_posts().status_code == 200
    return taken[0]


SECRET = "Basic cHJvdmlkZXI6c2VjcmV0"


@pytest.mark.parametrize("place", attacks(""))
@pytest.mark.parametrize("charset", ["punycode", "nonsense"])
def test_raw_email_from_a_provider_is_parsed_like_one_from_a_pipe(looked_up, monkeypatch, charset, place):
    posted = {"FromFull": {}, "RawEmail": attacks(charset)[place].decode("latin-1"), "MessageID": "a2"}

    def read_letter():
        letter = received_email(
            monkeypatch,
            lambda: Client(headers={"Authorization": SECRET}).post(
                "/webhooks/anymail/postmark/inbound/", json.dumps(posted), content_type="application/json"
            ),
        )
        return letter.reply_content, letter.attachments, letter.header("Subject")

    within_seconds(read_letter)

    assert looked_up == []


@pytest.mark.parametrize("charset", ["punycode", "nonsense"])
def test_headers_of_an_email_parsed_by_the_provider_are_not_decoded_again(looked_up, monkeypatch, charset):
    word = f"=?{charset}?q?{'x' * LONG}?="
    posted = {
        "FromFull": {"Email": "ann@x.example"},
        "Subject": word,
        "Headers": [{"Name": "X-Word", "Value": word}, {"Name": "Message-ID", "Value": "<1@x>"}],
        "TextBody": "Hi",
        "Attachments": [{"Name": word, "ContentType": f"image/png; charset={charset}", "Content": "eA=="}],
    }

    def read_letter():
        letter = received_email(
            monkeypatch,
            lambda: Client(headers={"Authorization": SECRET}).post(
                "/webhooks/anymail/postmark/inbound/", json.dumps(posted), content_type="application/json"
            ),
        )
        return letter.reply_content.text, letter.message_id, len(letter.attachments), letter.header("Subject")[:3]

    assert within_seconds(read_letter)[:3] == ("Hi", "<1@x>", 1)
    assert looked_up == []


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"text": "punycode"}, "Grüße"),
        ({"text": "UTF-8", "html": "hex"}, "Grüße"),
        ({"text": 7}, "Grüße"),
        ([], "Grüße"),
        ("{", "Grüße"),
    ],
)
def test_charsets_given_by_sendgrid_are_limited_to_the_table(monkeypatch, said, words):
    fields = {"headers": "From: ann@x.example\nMessage-ID: <1@x>", "text": "Grüße", "charsets": json.dumps(said)}

    letter = received_email(
        monkeypatch,
        lambda: Client(headers={"Authorization": SECRET}).post("/webhooks/anymail/sendgrid/inbound/", fields),
    )

    assert letter.reply_content.text == words


# In requests


def response_of_web_process(address: str, body: bytes, *, content_type: str) -> tuple[int, str]:
    """Return the answer of a web process; Django's test client would decode the request before our code runs."""
    environ = RequestFactory().generic("POST", address, body).environ
    told: list[str] = []
    given = {**environ, "wsgi.input": BytesIO(body), "CONTENT_TYPE": content_type}
    application = charsets.SafeContentType(get_wsgi_application())
    content = b"".join(application(given, lambda status, *_rest: told.append(status)))
    return int(told[0][:3]), content.decode()


def form(words: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="username"\r\n\r\n%b\r\n--b--\r\n' % words


ADDRESSES = [
    ("/login/?next=%C3%BC", "multipart/form-data; boundary=b"),
    ("/login/?next=%C3%BC", "application/x-www-form-urlencoded"),
    ("/api/users?page=%C3%BC", "application/json"),
    ("/messenger/visits?page=%C3%BC", "multipart/form-data; boundary=b"),
    ("/webhooks/anymail/postmark/inbound/?a=%C3%BC", "application/json"),
    ("/webhooks/anymail/sendgrid/inbound/?a=%C3%BC", "multipart/form-data; boundary=b"),
]


@pytest.mark.django_db
@pytest.mark.parametrize("charset", ["punycode", "idna", "hex", "nonsense"])
@pytest.mark.parametrize(("address", "content_type"), ADDRESSES)
def test_no_url_fails_or_hangs_because_of_a_charset(looked_up, address, content_type, charset):
    given = f"{content_type}; charset={charset}"

    status, _ = within_seconds(lambda: response_of_web_process(address, form(b"x" * LONG), content_type=given))

    assert status < 500
    assert looked_up == []


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "iso-8859-1", *NOT_OF_EMAIL])
def test_request_is_decoded_in_its_charset_or_in_utf_8(monkeypatch, charset):
    codec = charsets.codec_of(charset) or "utf-8"
    body = form("ü".encode(codec))
    application = charsets.SafeContentType(lambda environ, _: [WSGIRequest(environ).POST["username"].encode()])

    given = f'multipart/form-data; boundary=b; charset="{charset}"'
    environ = {**RequestFactory().generic("POST", "/", body).environ, "wsgi.input": BytesIO(body)}

    assert application({**environ, "CONTENT_TYPE": given}, None) == ["ü".encode()]


BROKEN = ["a*=nonsense''%20", "a*0*=x; a*=y", "charset*=punycode''x", f"a*{'9' * 5_000}=x", ";" * 8_000]


@pytest.mark.django_db
@pytest.mark.parametrize("broken", BROKEN)
def test_malformed_request_parameters_cause_no_server_error(broken):
    status, _ = within_seconds(
        lambda: response_of_web_process("/api/users", b"{}", content_type=f"application/json; {broken}")
    )

    assert status == 401

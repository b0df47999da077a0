"""Charsets of untrusted emails and requests: only the charsets that emails really use are accepted.

Python knows more codecs by name, and some of them (punycode, idna) take quadratic time. So an untrusted name never
reaches `codecs.lookup`; text in a charset that is not listed here is decoded as if it named none.

Names mean what they mean in browsers (https://encoding.spec.whatwg.org): programs write Windows-1252 and call it
iso-8859-1, or GBK and call it gb2312. Text without a charset is UTF-8, or Windows-1252 if it is not valid UTF-8.
"""

import re
from collections.abc import Callable, Iterable
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from email.policy import Compat32
from email.utils import quote
from encodings.aliases import aliases
from typing import Any

FALLBACK = "utf-8"
# The name for text whose charset is not known.
UNNAMED = "us-ascii"
MAX_NAME_LENGTH = 100
MAX_HEADER_LENGTH = 10_000
MAX_PARAMETERS = 100
# Not counting the escape sequences of charsets that switch between alphabets.
MAX_BYTES_PER_CHARACTER = 4
WITH_PARAMETERS = ("content-type", "content-disposition")

# By their names in Python.
CODECS = frozenset(
    """
    ascii utf_8 utf_8_sig utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le
    latin_1 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8 iso8859_9 iso8859_10 iso8859_11
    iso8859_13 iso8859_14 iso8859_15 iso8859_16
    cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp874 tis_620
    cp437 cp850 cp852 cp855 cp866 mac_roman mac_latin2 mac_cyrillic mac_greek mac_turkish
    koi8_r koi8_u koi8_t kz1048 ptcp154
    gb2312 gbk gb18030 hz big5 big5hkscs cp950
    shift_jis shift_jis_2004 shift_jisx0213 cp932 euc_jp euc_jis_2004 euc_jisx0213
    iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr euc_kr cp949 johab
    """.split()  # noqa: SIM905 - a table, and no line for each
)
# Names used in emails that Python does not know.
MORE_NAMES = {
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "iso_8859_6_i": "iso8859_6",
    "iso_8859_6_e": "iso8859_6",
    "iso8859_1": "latin_1",
    "ansi": "cp1252",
    "windows_31j": "cp932",
    "windows_874": "cp874",
    "windows_949": "cp949",
    "ks_c_5601": "euc_kr",
    "euc_cn": "gb2312",
    "gb_2312": "gb2312",
    "unicode_1_1_utf_8": "utf_8",
    "utf8mb4": "utf_8",
}
# By Python's names: the larger charset that programs really write (WHATWG).
WRITTEN_AS = {
    "latin_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}


def codec_of(charset: str) -> str | None:
    """Return Python's name of the codec for a charset; None if the charset is not in the list."""
    name = re.sub(r"[^a-z0-9]+", "_", charset[:MAX_NAME_LENGTH].lower()).strip("_").removeprefix("x_")
    found = MORE_NAMES.get(name) or aliases.get(name, name)
    return WRITTEN_AS.get(found, found) if found in CODECS else None


def decode(content: bytes, charset: str, *, longest: int | None = None) -> str:
    """Decode bytes to at most `longest` characters; malformed bytes and unknown charsets raise no error."""
    content = content if longest is None else content[: longest * MAX_BYTES_PER_CHARACTER]
    codec = codec_of(charset)
    if codec not in (None, "ascii"):
        return content.decode(codec, "replace")[:longest]
    return decode_unnamed(content)[:longest]


def decode_unnamed(content: bytes) -> str:
    """Decode bytes of which no charset is known."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as wrong:
        # Long texts are cut, perhaps within a character.
        if wrong.start >= len(content) - MAX_BYTES_PER_CHARACTER and wrong.reason == "unexpected end of data":
            return content[: wrong.start].decode("utf-8")
        return content.decode("cp1252", "replace")


def decode_header_words(header: str) -> str:
    """Return a header with its encoded words (RFC 2047) decoded; unchanged if they are malformed."""
    try:
        return "".join(decode_piece(text, name) for text, name in decode_header(header[:MAX_HEADER_LENGTH]))
    except (ValueError, LookupError, HeaderParseError):
        return header[:MAX_HEADER_LENGTH]


def decode_piece(text: str | bytes, charset: str | None) -> str:
    """Decode one piece of a header, as `decode_header` returns it."""
    if isinstance(text, str):
        return text
    if charset:
        return decode(text, charset)
    return text.decode("ascii" if text.isascii() else "raw-unicode-escape", "replace")


def decode_raw_bytes(value: str) -> str:
    """Return a header in which the parser escaped raw bytes (RFC 6532, and older programs) as text."""
    return value if value.isascii() else decode_unnamed(value.encode("utf-8", "surrogateescape"))


class HeaderPolicy(Compat32):
    """Raw headers, truncated to a safe length; parameters are in UTF-8 and name only charsets from the list.

    Parsing the parameters of a header takes time in proportion to their number times its length. The methods of
    `Message` (get_boundary, get_filename, get_content_charset, get_payload) decode with the charset that a parameter
    names.
    """

    def header_fetch_parse(self, name: str, value: str) -> str:
        value = decode_raw_bytes(str(value))[:MAX_HEADER_LENGTH]
        return with_safe_parameters(value, unknown=UNNAMED) if name.lower() in WITH_PARAMETERS else value


POLICY = HeaderPolicy()


class SafeContentType:
    """WSGI middleware that cleans the Content-Type: Django decodes a request by it before any middleware of its own."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if content_type := environ.get("CONTENT_TYPE"):
            environ["CONTENT_TYPE"] = with_safe_parameters(content_type)
        return self.application(environ, start_response)


def with_safe_parameters(value: str, *, unknown: str = FALLBACK) -> str:
    """Return a header whose parameters are decoded (RFC 2231) and name only charsets from the list, or `unknown`."""
    value = ";".join(value.split(";", MAX_PARAMETERS + 1)[: MAX_PARAMETERS + 1])
    if "*" not in value and "charset" not in value.lower():
        return value
    header = Message()
    header["Content-Type"] = value
    try:
        (first, _), *given = header.get_params([("", "")])
    except (ValueError, TypeError):
        # Malformed numbering of continued parameters.
        return value.partition(";")[0]
    safe = [f'{name}="{quote(safe_parameter(name, found, unknown=unknown))}"' for name, found in given]
    return "; ".join([first, *safe])


def safe_parameter(name: str, value: str | tuple[str | None, str | None, str], *, unknown: str) -> str:
    """Return a parameter as text, with `unknown` instead of a charset that is not in the list."""
    if isinstance(value, tuple):
        charset, _, text = value
        value = decode(text.encode("raw-unicode-escape"), charset or UNNAMED)
    return unknown if name.lower() == "charset" and codec_of(value) is None else value

"""Quote headers: the lines that mail programs write above the email that is answered, in any language.

There are three kinds: one line with date and author ("On 4 May 2026 at 10:00 Ada <ada@acme.example> wrote:"), Outlook's
block of labels (From, Sent, To, Subject), and a drawn line ("-----Original Message-----"). A line counts only if it
cannot be the writer's own sentence: nobody's words may be lost by a guess.
"""
# ruff: noqa: RUF001 - some alphabets have similar letters

import re
from itertools import takewhile

# Emails are untrusted: longer lines are not headers.
MAX_LINE_LENGTH = 400
MAX_WRAPPED_LINES = 3
MAX_AUTHOR_LENGTH = 150
MAX_BLOCK_LINES = 12

ENDS_IN_COLON = re.compile(r"[:：][\s*_\u200e\u200f\u202a-\u202e\u2066-\u2069]*$")
DATE = re.compile(
    r"\b(?:19|20)\d\d(?!\d)|\b\d{1,2}[./-]\s?\d{1,2}[./-]\s?\d{2,4}\b|\b\d{2,4}[./-]\s?\d{1,2}[./-]\s?\d{1,2}\b|\d年|\d월"
)
TIME = re.compile(r"\b\d{1,2}[:.h]\d{2}")
ENDS_IN_ADDRESS = re.compile(
    r"[<(\[](?:mailto:)?[\s\u202a-\u202e]*[^\s<>()\[\]@]{1,100}@[^\s<>()\[\]@]{1,200}[>)\]\s\u202a-\u202e\u200e\u200f]+[:：]"
)
ADDRESS = re.compile(r"[^\s<>()@]{1,100}@[^\s<>()@]{3,200}")
WROTE = re.compile(
    r"\b(?:wrote|writes|schrieb|schreibt|geschrieben|a écrit|écrivait|ha scritto|scrive|ha escrito|escribió|escribe"
    r"|escreveu|escrigué"
    r"|va escriure|schreef|geschreven|napisał(?:a|\(a\))?|napisana przez|pisze|nadesłał"
    r"|napsal(?:a|\(a\))?|napísal(?:a|\(a\))?|píše"
    r"|kirjoitti|írta|írtam"
    r"|skrev|skriver|skrifaði|a scris|yazdı|yazmış|je napisao|je napisala|piše|kirjutas|rašė|rakstīja|έγραψε|пишет"
    r"|написал[аи]?|писал[аи]?|пише"
    r"|написав|написа|напиша|כתב(?:ה)?|كتب|viết|menulis|เขียน)\b|写道|寫道|寫道|작성|さん(?:は|が)?書き|のメッセージ|님이",
    re.IGNORECASE,
)
# Outside a quote, people report their own words with the same verbs.
FIRST_PERSON = re.compile(
    r"\b(?:i|i'd|we|ich|wir|je|j'ai|nous|io|noi|ho|yo|nosotros|eu|nós|ik|wij|ja|my|já|minä|me|én|mi|я|мы|jeg|jag|vi)\b",
    re.IGNORECASE,
)
# The labels of one block, in the languages of Outlook, GMX, Seznam and others.
FROM = (
    "From|Von|Absender|De|Expéditeur|Remitente|Da|Mittente|Van|Afzender|Od|Nadawca|Odesílatel|Odosielateľ|Fra|Från"
    "|Lähettäjä|Feladó"
    "|От|От кого|Отправитель|Від|Kimden|Gönderen|De la|Από|Saatja|No|Nuo|Šalje|Pošiljatelj|Gửi từ|Từ|Dari|จาก|מאת|من"
    "|差出人|送信者|发件人|寄件者|寄件人|보낸사람|보낸 사람"
)
SENT = (
    "Sent|Date|Gesendet|Datum|Envoyé|Envoyé le|Enviado|Enviado el|Enviado em|Enviada em|Enviada|Data|Data de envio"
    "|Fecha|Inviato|Verzonden"
    "|Wysłano|Wysłane|Odesláno|Odoslané|Dátum|Sendt|Dato|Skickat|Lähetetty|Päivämäärä|Päiväys|Elküldve|Küldve"
    "|Отправлено|Дата|Надіслано|Изпратено"
    "|Gönderildi|Gönderme tarihi|Tarih|Trimis|Trimisă|Στάλθηκε|Ημερομηνία|Saadetud|Kuupäev|Nosūtīts|Išsiųsta|Poslano"
    "|Đã gửi|Ngày|Terkirim|Tanggal|ส่ง|נשלח|תאריך|تاريخ"
    "|送信日時|日付|日時|送信日|发送时间|日期|寄件日期|傳送日期|보낸날짜|보낸 날짜|날짜"
)
TO = (
    "To|An|Empfänger|À|A|Destinataire|Para|Destinatario|Aan|Do|Komu|Adresat|Til|Till|Vastaanottaja|Címzett"
    "|Кому|До"
    "|Kime|Alıcı|Către|Προς|Adressaat"
    "|Saaja|Kam|Prima|Za|Đến|Tới|Kepada|ถึง|אל|إلى|宛先|收件人|收件者|받는사람|받는 사람|Cc|Bcc|Kopie|Kopia|Kopi|Kopio"
    "|Copie|Copia|Cópia|DW|Másolatot kap|Másolat|Копия|Копія|Bilgi|抄送|副本|참조|Reply-To|Antwort an"
    "|Organization|Organisation|Priority|Importance|Priorität|Attachments|Anlagen"
)
SUBJECT = (
    "Subject|Betreff|Objet|Asunto|Oggetto|Assunto|Onderwerp|Temat|Předmět|Věc|Predmet|Emne|Ämne|Aihe|Tárgy|Тема"
    "|Относно|Konu|Subiect|Θέμα|Teema"
    "|Temats|Tema|Zadeva|Naslov|Chủ đề|Subjek|Perihal|เรื่อง|נושא|الموضوع|件名|主题|主旨|主題|제목"
)
LABELS = {
    label.casefold(): kind
    for kind, labels in (("from", FROM), ("sent", SENT), ("to", TO), ("subject", SUBJECT))
    for label in labels.split("|")
}
LABEL_LINE = re.compile(r"^[>*_\s\ufeff]*([^\W\d_](?:[\w \-']{0,20}\w)?|[À])[*_]*\s?[:：]")
DRAWN_LINE = re.compile(
    r"^\W*[-_=*]{2,}\s*(?:original (?:message|appointment|e-?mail)|ursprüngliche (?:nachricht|mail|e-mail)"
    r"|originalnachricht|originalmail|weitergeleitete nachricht"
    r"|message (?:d[’'])?(?:original|origine|d'origine)|message transféré|messaggio (?:originale|inoltrato)"
    r"|mensaje original|mensagem original|oorspronkelijk(?:e)? bericht"
    r"|(?:oryginalna|pierwotna) wiadomość|wiadomość oryginalna|původní (?:zpráva|e-mail|mail)|pôvodná správa"
    r"|alkuperäinen viesti|eredeti üzenet|исходное сообщение|оригинальное сообщение|пересылаемое сообщение"
    r"|opprinnelig (?:melding|e-post)|oprindelig meddelelse|ursprungligt meddelande|originalmeddelande"
    r"|orijinal (?:mesaj|ileti)|özgün ileti|mesaj original|mesajul original|αρχικό μήνυμα|forwarded message"
    r"|reply message|原始邮件|原始郵件|邮件原件|元のメッセージ|원본 ?메[시세]지)\s*[-_=*]{2,}\W*$",
    re.IGNORECASE,
)
# A drawn line with words that no list knows, such as those of another language.
UNKNOWN_DRAWN_LINE = re.compile(r"^\s*[-_=*]{5,}\s{0,3}[^\W\d_][^\n]{2,60}?\s{0,3}[-_=*]{5,}\s*$")


def find_quote_header(lines: list[str]) -> tuple[int, int] | None:
    """Return the numbers of the first line of the first quote header and of the first line below it; None if none."""
    for number, line in enumerate(lines):
        if not line.strip() or len(line) > MAX_LINE_LENGTH:
            continue
        if DRAWN_LINE.match(line):
            below = next_line(lines, number + 1)
            return number, (block_end(lines, below) or number + 1)
        if (end := block_end(lines, number)) is not None:
            return number, end
        if ENDS_IN_COLON.search(line):
            is_above_quote = is_quoted(lines, next_line(lines, number + 1))
            begin = attribution_begin(lines, number, is_above_quote=is_above_quote)
            if begin is not None:
                return begin, number + 1
    return None


def find_doubtful_header(lines: list[str]) -> int | None:
    """Return the number of the first line that may be a quote header in an unknown form; None if there is none.

    Nothing is removed below it, as it may be the writer's own sentence.
    """
    for number, line in enumerate(lines):
        if not line.strip() or len(line) > MAX_LINE_LENGTH:
            continue
        is_attribution_like = bool(ENDS_IN_COLON.search(line)) and names_author(line)
        if is_attribution_like or UNKNOWN_DRAWN_LINE.match(line) or begins_short_block(lines, number):
            return number
    return None


def begins_short_block(lines: list[str], number: int) -> bool:
    """Tell whether two or more labels of a header begin here, too few to be sure, with a subject or an address."""
    kinds = list(takewhile(bool, map(label_kind, lines[number : number + MAX_BLOCK_LINES])))
    has_address = any("@" in line for line in lines[number : number + len(kinds)])
    return "from" in kinds and len(set(kinds)) >= 2 and ("subject" in kinds or has_address)


def label_kind(line: str) -> str | None:
    """Return the kind of the label with which a line begins; None if it begins with no known label."""
    label = LABEL_LINE.match(line) if len(line) <= MAX_LINE_LENGTH * 10 else None
    return LABELS.get(label[1].casefold()) if label else None


def attribution_begin(lines: list[str], number: int, *, is_above_quote: bool) -> int | None:
    """Return the line where an attribution begins that ends on this line; None if this is not one.

    The shortest possible attribution counts, so that the writer's last line above it is kept.
    """
    for begin in range(number, max(number - MAX_WRAPPED_LINES, -1), -1):
        if begin < number and not may_be_wrapped(lines[begin]):
            break
        if is_attribution(" ".join(lines[begin : number + 1])):
            return begin
    return number if is_above_quote and names_author(lines[number]) else None


def may_be_wrapped(line: str) -> bool:
    """Tell whether an attribution may go on below this line: it has a date, a time or an address, and does not end."""
    has_part = bool(DATE.search(line) or TIME.search(line) or ADDRESS.search(line))
    return has_part and len(line) <= MAX_LINE_LENGTH and not line.startswith(">") and line.rstrip()[-1] not in "!?"


def is_attribution(text: str) -> bool:
    """Tell whether a text names the author and the date of an email."""
    if text.startswith(">") or not DATE.search(text) or FIRST_PERSON.search(ADDRESS.sub(" ", text)):
        return False
    # Without a verb, the author's address is the end of the line.
    return bool(WROTE.search(text)) or bool(TIME.search(text) and ENDS_IN_ADDRESS.search(text))


def names_author(line: str) -> bool:
    """Tell whether a line directly above a quote is about the quote."""
    if line.startswith(">") or len(line) > MAX_AUTHOR_LENGTH:
        return False
    if FIRST_PERSON.search(ADDRESS.sub(" ", line)):
        return False
    return bool(WROTE.search(line)) or bool(DATE.search(line) and TIME.search(line) and ADDRESS.search(line))


def block_end(lines: list[str], number: int) -> int | None:
    """Return the number of the line below a block of labels that begins here; None if this is not one."""
    kinds: list[str] = []
    end = number
    for line in lines[number : number + MAX_BLOCK_LINES]:
        kind = label_kind(line)
        if kind is None:
            # A long list of recipients goes on on the next line.
            if kinds and kinds[-1] == "to" and line.startswith((" ", "\t")) and "@" in line:
                end += 1
                continue
            break
        kinds.append(kind)
        end += 1
    has_address = any("@" in line for line in lines[number:end])
    is_block = "from" in kinds and len(kinds) >= 2 and ("subject" in kinds if len(kinds) > 2 else has_address)
    return end if is_block and ("sent" in kinds or "subject" in kinds) else None


def is_quoted(lines: list[str], number: int) -> bool:
    return number < len(lines) and lines[number].startswith(">")


def next_line(lines: list[str], number: int) -> int:
    """Return the number of the first line from here on that is not empty."""
    return next((n for n in range(number, min(number + 3, len(lines))) if lines[n].strip()), number)

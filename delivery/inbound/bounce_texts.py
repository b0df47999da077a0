"""Bounces in free text: whose email is one, which addresses it names, and the reason for each.

Servers that do not send reports (RFC 3464) write a few sentences: qmail, Exim, hMailServer, Exchange 2003, MDaemon and
dozens more. No two agree on the form, so the parser looks for lines that name an address and for the words below them;
flufl.bounce knows some forms in which the address stands elsewhere.
"""

import re
from dataclasses import dataclass
from email.message import Message
from html import unescape

from flufl.bounce import all_failures

from delivery.channels.bounce_rules import mailbox_verdict
from delivery.inbound import auto_replies
from delivery.inbound.message import InboundEmail, decode_text, extract_addresses

MAX_TEXT_LENGTH = 50_000
MAX_LINE_LENGTH = 1_000
MAX_LINES = 600
MAX_REASON_LINES = 15
MAX_LABEL_LENGTH = 80
MAX_ADDRESSES = 20

SERVER_NAMES = re.compile(
    r"mail(?:er)?[-_. ]?daemon|post ?master|mail delivery|delivery (?:system|sub-?system|service|agent|status"
    r"|notification|failure|reports?)"
    r"|mail (?:system|administrator|server|sub-?system|router)|system administrator|interscan|messaging gateway"
    r"|anti-?virus|mail ?gateway|system attendant"
    r"|microsoftexchange[0-9a-f]{8,}"
    r"|^<?(?:bounces?|mdaemon|mailserver|mail-?system|mailadmin|smtpd?|mta|mailgate|email-?daemon|daemon"
    r"|double-bounce|mailbot|mail-?gateway)[@+]",
    re.I,
)
# Servers that write to a null path without one of those names.
FAILURE_SUBJECT = re.compile(
    r"undeliver|un-?deliverable|non-?deliver|not delivered|delivery.{0,30}\b(?:fail|error|problem|delay|status|notif"
    r"|report|reject|refus|unsuccess|abort|warning)"
    r"|fail(?:ed|ure)?\b.{0,30}\b(?:deliver|notice|mail|message|send)|(?:mail|message|email)\b.{0,20}\b(?:fail|error"
    r"|reject|refus|bounc|could not|not sent|not be deliver|delay)"
    r"|returned? (?:mail|e-?mail|message|to sender)|mail returned|bounce|failure notice|could ?n.t be delivered"
    r"|could not (?:be )?deliver|warning:|mail system error"
    r"|unzustellbar|nicht zugestellt|unzustellbare|zustellung|fehlgeschlagen|non remis|non distribu|échec|retourné"
    r"|no se pudo|no entregad|no se ha podido|devuelto|imposible|entrega"
    r"|mancata consegna|non recapit|consegna|não (?:foi )?entreg|não pôde|falha|devolvid|onbestel|niet (?:be"
    r"|af)gelever|niet bezorgd|onbezorg|niedostarcz|nie dostarcz|zwrot|nedoru[cč]|kézbesít"
    r"|не ?доставлен|недоставлен|невозможно доставить|не может быть доставлен|teslim edil|olevererbar|levereras"
    r"|leverings?feil|levering|ikke levert|kunne ikke|toimitus|perille"
    r"|配信(?:不能|エラー|できません)|配達|エラーメール|送信できません|届けられません|退信|投递失败|无法投递|無法傳遞|无法送达|未送达|失败|失敗",
    re.I,
)
FAILURE_TEXT = re.compile(
    r"(?:could|can|was|were|has|have|did|is|will|would|been)(?: ?not|n['’]?t|not)\b[\w\s,'’()/-]{0,60}?\b(?:deliver"
    r"|reach|sent|send|accept|process|relay|forward|complete|receiv|find|found)"
    r"|undeliver|un-?deliverable|non-?deliver|not (?:be )?delivered|delivery\b[\w\s:()]{0,40}\b(?:fail|error|problem"
    r"|abort|delay|unsuccess|impossible)|fail(?:ed|ure|ing)?\b[\w\s:'()-]{0,40}\b(?:deliver|recipient|address|reach"
    r"|send)"
    r"|unable to (?:deliver|send|relay|reach|process|complete)|couldn['’]?t (?:deliver|be delivered)|undelivered"
    r"|returned (?:mail|to (?:the )?sender|message|to you)|(?:mail|message) (?:is )?(?:being )?returned|return(?:ed"
    r"|ing) (?:your|the|this)"
    r"|permanent (?:fatal )?error|fatal error|failure notice|delivery status notification|automatically rejected"
    r"|(?:was|been|is) (?:rejected|refused|bounced|returned|undeliverable)|not accepting mail|did not reach|bounce"
    r"|mailbox (?:is )?(?:full|unavailable|disabled)|user unknown|unknown user|no such (?:user|recipient|address"
    r"|mailbox)|invalid recipient|\bquota\b|\b5\d\d[ -]\d?\.?\d|\b[45]\.\d{1,3}\.\d{1,3}\b"
    r"|unzustellbar|nicht (?:erfolgreich )?(?:zugestellt|zustellen|ausgeliefert)|n['’]a (?:pas )?pu (?:pas )?être"
    r"|non (?:remis|distribu)|no (?:se )?(?:ha |pudo |puede |fue )(?:sido |podido |ser )?(?:entrega|enviad)"
    r"|non (?:è stato|può essere|recapit)|não (?:pôde|pode|foi|é)\b"
    r"|kan niet worden|kon niet worden|nie (?:mog|może|został)\w* |nelze doru|nepodařilo se|не (?:было |может быть "
    r"|удалось |удаётся )?доставл|невозможно доставить|не доставлено|не удалось|teslim edilemedi"
    r"|kunde inte levereras|kunne ikke leveres"
    r"|配信(?:不能|でき)|送信できません|届けることができ|退回|无法投递|无法送达|投递失败|不存在|無法",
    re.I,
)
STILL_TRYING = re.compile(
    r"(?:warning|notification) (?:message )?only|(?:will|we'll|is going to|still|shall)\b[\w\s,]{0,30}\b(?:retry"
    r"|retries|try(?:ing)?|keep|continue|attempt)|continue (?:to try|trying|delivery)|(?:will be|being) (?:retried"
    r"|attempted)"
    r"|(?:do|need) not (?:need to )?re-?send|attempts will continue|no action (?:is )?required"
    r"|not? yet been delivered|has not (?:yet )?been delivered|delivery (?:is |has been |was )?(?:delayed|deferred)"
    r"|deliver\w* delay|delayed (?:mail|message)|temporarily (?:delayed|deferred)",
    re.I,
)
GIVEN_UP = re.compile(
    r"given up|giving up|gave up|will not (?:be )?(?:retr|try)|permanent|no further|has been removed|expired"
    r"|(?<!non-)fatal"
    r"|no longer (?:valid|be)"
    r"|please (?:try to )?re-?send|has not been delivered\.|was not delivered",
    re.I,
)

# The end of the server's own words, and the begin of the returned email.
COPY_LINES = re.compile(
    r"^[\s>|*#=_-]*(?:(?:below (?:this line|the next line)|this is|here is|the following is|included is)?.{0,30}\b"
    r"(?:a )?copy of (?:the"
    r"|your)\b.{0,40}(?:message|mail)"
    r"|original (?:message|mail)\b|returned (?:message|mail)|message (?:text|headers?)\b|(?:your "
    r"|the )?message (?:headers? )?(?:follows?|reads)|(?:the )?headers? (?:of|from|follow)|unsent message"
    r"|forwarded message|begin(?:ning)? of|start of returned"
    r"|undelivered message|transcript of (?:the )?message|old message|message contents?|ursprüngliche (?:nachricht"
    r"|mail)|-+ ?message ?-+|body of the message|copie du message|mensaje original|mensagem original)"
    r"|^(?:return-path|received|dkim-signature|mime-version|x-mailer): ",
    re.I,
)
ADVICE = re.compile(r"\b(?:may|might|possibly|perhaps|probably|likely|if|whether|please)\b", re.I)
LINE_END = re.compile(r"<(?:br|/p|/div|/tr|/li|/h\d|/pre|/title|hr)\b[^<>]*>", re.I)
HIDDEN = re.compile(r"<(?:style|script|!--)[^<]*", re.I)
TAG = re.compile(r"<[^<>@]*>")
DESCRIPTION = re.compile(r"\s*(?:subject|sent|date|to|cc|from|message-id|betreff|objet|asunto)\s*:", re.I)
HEADING = re.compile(
    r"did not reach|following (?:recipient|address|user)|failed recipients?:|non-?delivered recipients?",
    re.I,
)
ADDRESS = re.compile(r"(?<![\w.+@-])[\w!#$%&'*+/=?^`{|}~.-]{1,100}@(?:[\w-]{1,63}\.)+[\w-]{2,63}(?![\w@])")
RCPT = re.compile(r"rcpt to:? ?<?\s*$", re.I)
# The words before an address that failed: none, or a label.
BEFORE = re.compile(
    r"^[\s<>\[\]('\"*•·|:,;.=-]*$"
    r"|(?:^|[\s(\[;])(?:to|for|rcpt|recipients?(?: address)?|addressed to|address(?:es)?(?: failed| rejected)?|user"
    r"|users|account|mail ?box|e-?mail(?: address)?|failed recipients?|intended recipients?|undeliverable address"
    r"|error-for|final-recipient: rfc822;?|original-recipient: rfc822;?|smtp|dda|deliver(?:ed|y)? (?:mail "
    r"|message )?to|sent to|message to|mail to|unknown|mailbox for|full|is full|an|empfänger|destinataire"
    r"|destinatario|rfc822|nombre|addressee|reaching|reach|kilid|получател\w*|адрес\w*|宛先|收件人)\s*[\s:;<\[('\"=*-]*$",
    re.I,
)
NOT_FAILED = re.compile(
    r"(?:^|\s)(?:from|reply-to|sender|return-path|errors-to|message-id|message id|in-reply-to|references|contact"
    r"|please (?:contact|e-?mail|write|send|forward)|help|assistance|support|questions?|postmaster|administrator"
    r"|mail from|by|via|cc|bcc|mailto|von|de|absender|remitente|expéditeur|mittente)\b[\s:<\[('\"=,;a-z-]{0,30}$",
    re.I,
)
ADDRESS_TYPE = re.compile(r"^(?:smtp|rfc822)=", re.I)
SERVER_ADDRESS = re.compile(
    r"^(?:mailer-daemon|postmaster|abuse|no-?reply|support|help|helpdesk|admin|hostmaster|root)@",
    re.I,
)
BOUNCE_TOKEN = re.compile(r"^(?:bounce|reply)\+", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBounce:
    """A failed recipient ("" if the text names none), the server's words, and whether it still tries."""

    address: str
    reason: str
    is_delay: bool
    is_certain: bool


def has_server_name(email: InboundEmail) -> bool:
    """Tell whether the sender has the name of a mail server."""
    return bool(SERVER_NAMES.search(email.header("From")) or SERVER_NAMES.search(email.sender))


def is_doubtful(email: InboundEmail) -> bool:
    """Tell whether an email is from a mail server, but not a receipt."""
    return has_server_name(email) and not any(
        part.get_content_type() == "message/disposition-notification" for part in email.parts
    )


def may_be_notice(email: InboundEmail, *, at_bounce_address: bool) -> bool:
    """Tell whether a server may have sent an email: at other addresses, not if the email has a return path."""
    return at_bounce_address or not email.return_path


def is_text_bounce(email: InboundEmail, *, at_bounce_address: bool) -> bool:
    """Tell whether an email without a report is a bounce: by its sender and by its content."""
    if email.headers("X-Failed-Recipients"):
        return True
    if not may_be_notice(email, at_bounce_address=at_bounce_address):
        return False
    if has_server_name(email):
        return says_failure(email)
    # A vacation reply has a null path too, but the name of a person.
    is_from_server = email.return_path == "" or at_bounce_address
    if is_from_server and not auto_replies.is_out_of_office(email.header("Subject")):
        return bool(FAILURE_SUBJECT.search(email.header("Subject")) and FAILURE_TEXT.search(own_text(email)))
    return False


def says_failure(email: InboundEmail) -> bool:
    """Tell whether the subject or the text says that an email was not delivered."""
    return bool(FAILURE_SUBJECT.search(email.header("Subject")) or FAILURE_TEXT.search(own_text(email)))


def find_doubt(email: InboundEmail) -> str:
    """Return the reason why a server may have written an email that is kept as a reply; else ""."""
    return "it reads like a notice of a mail server" if has_server_name(email) and says_failure(email) else ""


def read_text_bounces(email: InboundEmail) -> list[TextBounce]:
    """Return the failed recipients of a bounce; at least one, whose address may be unknown."""
    text = own_text(email)
    lines = text.split("\n")
    found = reasons_of_addresses(email, lines)
    if stated := extract_addresses(email.headers("X-Failed-Recipients")):
        found = {address: found.get(address, "") for address in stated}
    elif not found:
        found = dict.fromkeys(addresses_by_flufl(email, text) or addresses_of_copy(email) or [""], "")
    general = general_reason(lines)
    is_delay = says_delay(email)
    is_certain = says_failure(email)
    return [
        TextBounce(
            address=address,
            reason=full_reason(address, reason, general=general, text=text),
            is_delay=is_delay,
            is_certain=is_certain,
        )
        for address, reason in list(found.items())[:MAX_ADDRESSES]
    ]


def full_reason(address: str, reason: str, *, general: str, text: str) -> str:
    """Return the reason for one address: its own, else that of the whole notice.

    An address that only forwards to the one that failed has none.
    """
    if address and re.search(rf"(?:generated|expanded) from:? *<?{re.escape(address)}", text, re.I):
        return ""
    return general if general and mailbox_verdict(reason) is None else reason


def says_delay(email: InboundEmail) -> bool:
    """Tell whether the server says that it still tries to deliver the email."""
    text = own_text(email)
    return bool(STILL_TRYING.search(text)) and not GIVEN_UP.search(STILL_TRYING.sub("", text))


def own_text(email: InboundEmail) -> str:
    """Return the server's own words: the text above the copy of the returned email."""
    texts = [decode_text(part) for part in email.parts if part.get_content_type() == "text/plain"]
    if not any(text.strip() for text in texts):
        texts = [html_as_lines(decode_text(part)) for part in email.parts if part.get_content_type() == "text/html"]
    lines = [line[:MAX_LINE_LENGTH].rstrip() for line in "\n".join(texts)[:MAX_TEXT_LENGTH].split("\n")[:MAX_LINES]]
    for number, line in enumerate(lines):
        if number > 1 and COPY_LINES.search(line) and any(map(str.strip, lines[:number])):
            return "\n".join(lines[:number])
    return "\n".join(lines)


def html_as_lines(source: str) -> str:
    """Return the text of HTML, in lines; whole documents of servers need no parser."""
    text = LINE_END.sub("\n", HIDDEN.sub(" ", source[: MAX_TEXT_LENGTH * 2]).replace("\n", " "))
    return unescape(TAG.sub(" ", text)).replace("\xa0", " ")


def reasons_of_addresses(email: InboundEmail, lines: list[str]) -> dict[str, str]:
    """Return the addresses that the text reports as failed, each with the words beside and below it."""
    ours = {*email.recipients, email.sender}
    found = [
        (address, number)
        for number, line in enumerate(lines)
        for address in failed_addresses(line)
        if address not in ours
    ]
    below = description_length(lines)
    reasons: dict[str, str] = {}
    for address, number in [item for item in found if item[1] >= below] or found:
        if mailbox_verdict(reasons.get(address, "")) is None:
            reasons[address] = reason_below(lines, number) or reasons.get(address, "")
    return reasons


def failed_addresses(line: str) -> list[str]:
    """Return the addresses that a line reports as failed: not those of people to ask, and none of ours."""
    found = []
    for match in list(ADDRESS.finditer(line))[:MAX_ADDRESSES]:
        before = line[: match.start()]
        if len(before) > MAX_LABEL_LENGTH:
            before = f"…{before[-MAX_LABEL_LENGTH:]}"
        address = next(iter(extract_addresses([ADDRESS_TYPE.sub("", match[0].strip("'."))])), "")
        is_recipient = bool(RCPT.search(before)) or (bool(BEFORE.search(before)) and not NOT_FAILED.search(before))
        if address and is_recipient and not SERVER_ADDRESS.search(address) and not BOUNCE_TOKEN.search(address):
            found.append(address)
    return found


def description_length(lines: list[str]) -> int:
    """Return the number of lines that describe the email, above those that name the failed recipients."""
    return next((number for number, line in enumerate(lines) if HEADING.search(line)), 0)


def reason_below(lines: list[str], number: int) -> str:
    """Return the words on a line and on the lines below it, to the end of the paragraph that says something."""
    words: list[str] = []
    for line in lines[number : number + MAX_REASON_LINES]:
        bare = ADDRESS.sub(" ", line)
        if not line.strip():
            if re.search(r"[^\W\d_]{3}", " ".join(words)):
                break
            continue
        if words and BEFORE.search(line.partition("@")[0].rpartition(" ")[0]) and ADDRESS.match(line.strip(" <>:;\t")):
            # The next failed address.
            break
        words.append(bare.strip(" \t<>:;[](){}*'\"") or "")
    return " ".join(filter(None, words))


def general_reason(lines: list[str]) -> str:
    """Return the lines that a refusal consists of, wherever they stand, but not advice; "" if there are none."""
    own = [
        line.strip()
        for line in lines[description_length(lines) :]
        if not DESCRIPTION.match(line) and not ADVICE.search(line)
    ]
    said = [line for line in own if mailbox_verdict(ADDRESS.sub(" ", line)) is not None]
    return " ".join(said[:3])


def addresses_by_flufl(email: InboundEmail, text: str) -> list[str]:
    """Return the failed addresses that flufl.bounce finds in the server's own words.

    It receives a copy with short lines, because some of its expressions take quadratic time.
    """
    copy = Message()
    for name in ("From", "Subject", "X-Mailer", "Received"):
        # Some detectors fail without a sender.
        copy[name] = email.header(name) or "MAILER-DAEMON@server.invalid"
    copy.set_payload(text)
    try:
        temporary, permanent = all_failures(copy)
    except (LookupError, ValueError, TypeError, AttributeError):
        # A detector met a text that it does not expect.
        return []
    ours = {*email.recipients, email.sender}
    raw = [address.decode("utf-8", "replace") for address in (*sorted(permanent), *sorted(temporary))]
    return [address for address in extract_addresses(raw) if address not in ours][:MAX_ADDRESSES]


def addresses_of_copy(email: InboundEmail) -> list[str]:
    """Return the recipient of the returned email, if it has exactly one."""
    for part in email.parts:
        inner = part.get_payload()
        mail = inner[0] if part.get_content_type() == "message/rfc822" and isinstance(inner, list) and inner else None
        if isinstance(mail, Message):
            found = extract_addresses([str(value) for value in mail.get_all("To", [])])
            return found if len(found) == 1 else []
    return []

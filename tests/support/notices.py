"""Bounce notices in the forms of more than 40 mail servers, written from their documentation.

All addresses are made up. `emails/notices.txt` has a form for each server, with places for the bounce address ({to}),
the address that failed ({them}), the action, the status and the server's words ({said}).
"""

import re
from base64 import encodebytes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FORMS_FILE = Path(__file__).resolve().parent / "emails" / "notices.txt"
HARD, SOFT, DELAY = "no_mailbox", "bounced", "accepted"
TO, THEM = "bounce+abcdefghijklmnop@bounce.acme.example", "ann.lee@widgets.example"
UNKNOWN = ("5.1.1", "550 5.1.1 User unknown", HARD)
NO_MAILBOX = ("5.0.0", "550 No such user here", HARD)
FULL = ("5.2.2", "552 5.2.2 Mailbox is full", SOFT)
SPAM = ("5.7.1", "554 5.7.1 Message rejected as spam by content filter", SOFT)
BLOCKED = ("5.7.1", "550 5.7.1 Client host [192.0.2.5] blocked using a blocklist", SOFT)
TIMED_OUT = ("4.4.1", "connection timed out", SOFT)
WARNING = ", still trying"
# The words of some servers of their own; every other form gets the three usual answers.
OWN_WORDS = {
    "Exchange Online": [
        ("5.1.10", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", HARD),
        ("5.4.1", "550 5.4.1 Recipient address rejected: Access denied [AM9.prod.protection.outlook.com]", HARD),
        ("5.2.2", "554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException", SOFT),
        ("5.7.133", "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required", SOFT),
    ],
    "IIS SMTP": [("5.1.1", "", HARD), ("5.2.2", "", SOFT), ("4.4.7", "", SOFT)],
    "Gmail": [
        ("5.1.1", "550-5.1.1 The email account that you tried to reach does not exist. 550 5.1.1 gsmtp", HARD),
        (
            "5.2.1",
            "550-5.2.1 The user you are trying to contact is receiving mail at a rate 550 5.2.1 gsmtp",
            SOFT,
        ),
        ("4.4.1", "The recipient server did not accept our requests to connect. timed out", SOFT),
    ],
    "Domino": [
        ("5.0.0", "User ann.lee (ann.lee@widgets.example) not listed in Domino Directory", HARD),
        ("5.0.0", "Maximum mail database size exceeded: quota", SOFT),
    ],
    "SendGrid": [("5.1.1", "550 5.1.1 User unknown", HARD), ("5.4.7", "connection timed out", SOFT)],
    "OpenSMTPD": [("5.0.0", "550 5.1.1 User unknown", HARD), ("5.0.0", "552 5.2.2 Mailbox full", SOFT)],
    "Barracuda": [SPAM, BLOCKED],
    "IronPort": [
        ("5.0.0", "5.1.0 - Unknown address error 550-'5.1.1 User unknown'", HARD),
        ("5.0.0", "5.1.0 - Unknown address error 550-'5.2.2 Mailbox Full'", SOFT),
        ("5.0.0", "5.3.0 - Other mail system problem 554-'Message refused by policy'", SOFT),
    ],
    "qmail": [
        ("", "Sorry, no mailbox here by that name. (#5.1.1)", HARD),
        ("", "Sorry, I couldn't find any host named widgets.example. (#5.1.2)", HARD),
        ("", "user is over quota (#5.2.2)", SOFT),
        ("", "I'm not going to try again; this message has been in the queue too long. timed out", SOFT),
    ],
    "Exim without the header": [
        ("", "Unrouteable address", HARD),
        ("", "all relevant MX records point to non-existent hosts", HARD),
        ("", "retry timeout exceeded", SOFT),
        ("", "mailbox is full (MTA-imposed quota exceeded while writing to tmp/x)", SOFT),
    ],
    "Exchange 2003": [
        ("5.1.1", "The e-mail account does not exist at the organization this message was sent to.", HARD),
        ("5.2.2", "The recipient's mailbox is full.", SOFT),
        ("5.7.1", "You do not have permission to send to this recipient.", SOFT),
    ],
    "Exchange 5.5": [("", "The recipient name is not recognized", HARD), ("", "The recipient's mailbox is full", SOFT)],
    "Yahoo": [
        ("", "554 delivery error: dd This user doesn't have a yahoo.com account (ann.lee) [0]", HARD),
        ("", "554 delivery error: dd Sorry, your message cannot be delivered. The mailbox is over quota", SOFT),
    ],
    "GroupWise": [("", "user not found", HARD), ("", "mailbox is full", SOFT)],
    "IMail": [("", "550 unknown user", HARD)],
    "Coremail": [("", "550 用户不存在", HARD), ("", "552 用户邮箱已满", SOFT)],
    "Yandex": [("", "550 5.7.1 No such user!", HARD), ("", "552 5.2.2 Mailbox size limit exceeded", SOFT)],
    "German server": [("", "Empfänger unbekannt", HARD), ("", "Das Postfach ist voll, Quota überschritten", SOFT)],
    "French server": [("", "550 utilisateur inconnu", HARD), ("", "boîte pleine", SOFT)],
    "Dovecot": [("", "Quota exceeded (mailbox for user is full)", SOFT)],
    "no action": [UNKNOWN, FULL],
    "Sendmail 8.9": [("", "550 <ann.lee@widgets.example>... User unknown", HARD), ("", "552 Mailbox full", SOFT)],
}


@dataclass(frozen=True, slots=True)
class Sample:
    """A notice, and its meaning: the type of its feedback about the address that failed."""

    server: str
    meaning: str
    content: bytes


def read_forms() -> dict[str, str]:
    _, *pieces = re.split(r"^=== (.+)\n", FORMS_FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(pieces[::2], pieces[1::2], strict=True))


def notice_samples() -> Iterator[Sample]:
    """Yield all notices."""
    forms = read_forms()
    for server, form in forms.items():
        if server.endswith(WARNING):
            yield Sample(server, DELAY, filled(form, status="4.4.1", said="connect: timed out", action="delayed"))
            continue
        for status, said, meaning in OWN_WORDS.get(server, [UNKNOWN, FULL, SPAM]):
            yield Sample(server, meaning, filled(form, status=status or "5.0.0", said=said))
    yield Sample("SendGrid", SOFT, filled(forms["SendGrid"], status="5.4.7", said="expired", action="expired"))
    for status, said, meaning in (TIMED_OUT, NO_MAILBOX):
        yield Sample("Postfix", meaning, filled(forms["Postfix"], status=status, said=said))


def filled(form: str, *, status: str, said: str, action: str = "failed") -> bytes:
    values = {"to": TO, "them": THEM, "status": status, "said": said, "action": action}
    for name, value in values.items():
        form = form.replace(f"{{{name}}}", value)
    before, encoded, rest = form.partition("@BASE64@")
    if encoded:
        fields, boundary, after = rest.partition("\n\n--b1")
        form = f"{before}{encodebytes(fields.encode()).decode()}{boundary}{after}"
    return form.encode()

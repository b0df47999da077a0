"""Bounce rules: whether a refusal means that the mailbox does not exist (a hard bounce), or concerns the sender.

Servers say it in three ways: an enhanced status (RFC 3463), an SMTP reply code, and text. The first is meant for
machines, so a status about the mailbox or its domain decides.
"""

import re

ENHANCED = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
REPLY_CODE = re.compile(r"\s*([245]\d\d)\b")
# Bad mailbox, bad system, bad syntax, ambiguous, moved away, bad host by policy of the address (5.1.x), null MX.
# 5.1.7 and 5.1.8 speak of the sender's address.
NO_SUCH_ADDRESS = {0, 1, 2, 3, 4, 6, 9, 10}
# "Mailbox disabled, not accepting messages": 5.2.1. Full (5.2.2) and too long (5.2.3) pass.
NO_SUCH_MAILBOX = {1}
REFUSING = {"550", "551", "553", "554"}
NO_SUCH_MAILBOX_TEXT = re.compile(
    r"(?:no such|unknown|invalid|non-?existent|inactive|disabled|unrouteable|bad)"
    r"[\w\s'\"<>()@.,:-]{0,40}(?:user|recipient|mailbox|address|account|person|destination|domain)"
    r"|(?:user|recipient|mailbox|address|account|addressee)[\w\s'\"<>()@.,:+-]{0,80}"
    r"(?:unknown|not found|does\s?n.t exist|does not exist|doesn't have|not exist|no longer|disabled|inactive|invalid"
    r"|not (?:a )?(?:known|valid)|unavailable|not available)"
    r"|no mailbox here|not our customer|user doesn't have|recipient address rejected: (?:undeliverable|user|unknown)",
    re.IGNORECASE,
)
POLICY_TEXT = re.compile(
    r"spam|block|black\s?list|deny|denied|polic|reputation|spf\b|dkim|dmarc|rbl\b|dnsbl|listed|relay|authentic"
    r"|rate|too many|greylist|content|virus|quota|full|sender|temporar",
    re.IGNORECASE,
)


# How providers say that they do not know the sender; and Postfix, which says so at the recipient.
NOT_THIS_SENDER = re.compile(
    r"sender (?:signature|identity)|verified sender"
    r"|(?:'?from'?|sender)\b[^.]{0,60}\b(?:not (?:a )?(?:verified|confirmed|authori[sz]ed|allowed)|unverified)"
    r"|domain\b[^.]{0,40}\bnot verified",
    re.IGNORECASE,
)
# Too large, or an unknown parameter: about this email, not about the sender.
OF_THE_MAIL = {552, 555}
TOO_LARGE = re.compile(r"\b5\.(?:2\.3|3\.4)\b")
TOO_MANY_CONNECTIONS = re.compile(
    r"too many (?:[\w.-]+ ){0,3}(?:connections|sessions)|(?:maximum|limit)\b[^.]{0,40}\b(?:connections|sessions)",
    re.IGNORECASE,
)


def refuses_the_sender(code: int, words: str) -> bool:
    """Return whether the refusal concerns the sender, and not this one email."""
    return code >= 500 and code not in OF_THE_MAIL and not TOO_LARGE.search(words)


def names_the_sender(words: str, sender: str) -> bool:
    """Return whether a server refuses the sender at a later step, as Postfix does by default."""
    return f"<{sender}>: sender address rejected" in words.lower()


def says_not_this_sender(words: str) -> bool:
    """Return whether a provider says that it does not know the sender."""
    return bool(NOT_THIS_SENDER.search(words))


def says_no_such_mailbox(words: str, *, status: str = "") -> bool:
    """Return whether the text, or a separate status, says that the mailbox does not exist."""
    for said in (*ENHANCED.findall(words), *ENHANCED.findall(status)):
        family, subject, detail = (int(part) for part in said)
        if family != 5 or subject not in (0, 1, 2):
            return False
        if subject == 1:
            return detail in NO_SUCH_ADDRESS
        if subject == 2:
            return detail in NO_SUCH_MAILBOX or (detail == 0 and text_says_no_such_mailbox(words))
    return text_says_no_such_mailbox(words)


def text_says_no_such_mailbox(words: str) -> bool:
    """Decide by text alone: words about a policy outweigh those about a missing mailbox."""
    code = REPLY_CODE.match(words)
    if code is not None and code[1] not in REFUSING:
        return False
    return bool(NO_SUCH_MAILBOX_TEXT.search(words)) and not POLICY_TEXT.search(words)


def says_too_many_connections(words: str) -> bool:
    """Return whether a server says that it has too many connections of ours."""
    return bool(TOO_MANY_CONNECTIONS.search(words))

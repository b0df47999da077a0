"""Bounce rules: whether a refusal means that the mailbox does not exist (a hard bounce), or concerns the sender.

Servers say it in three ways: an enhanced status (RFC 3463), an SMTP reply code, and text. They often contradict each
other, because each relay on the way puts its own code around the answer of the next one. So the innermost answer
counts; text about rates, quotas, policies or the sender makes a bounce soft, whatever the code; and text about a
missing mailbox makes it hard, unless the code is about something else. Doubtful refusals are soft: a hard bounce ends
all email to a customer.

The sources of the codes and texts are in tests/delivery/channels/test_bounce_rules.py.
"""

import re

ENHANCED = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.]*\d)")
REPLY_CODE = re.compile(r"\s*([245]\d\d)\b")
ANY_REPLY_CODE = re.compile(r"(?:^|[:;>'\"(] ?|\bsaid |\breturned )([245]\d\d)(?=[ -]|$)")
MAX_WORDS_LENGTH = 5_000

# Bad mailbox, bad system, bad syntax, moved, null MX or not in the directory, disabled mailbox, unable to route;
# Microsoft's unknown recipient and missing domain.
HARD_CODES = {"5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.1.351", "5.2.1", "5.4.4", "5.4.310"}
# Sender's address, full mailbox, message too long, mailing list, no answer, congestion, loop, expired.
SOFT_CODES = {"5.1.7", "5.1.8", "5.2.2", "5.2.3", "5.2.4", "5.4.5", "5.4.6", "5.4.7"}
# Content, whose servers do not speak of mailboxes.
CONTENT_SUBJECT = "6"
REFUSING = {"550", "551", "552", "553", "554", "556", "571"}

# Names that say nothing, and may contain any word: addresses, hosts and links.
NAMES = re.compile(
    r"https?://\S+|<[^<>\s]{1,320}>|[^\s<>\[\]()'\",;:]{1,64}@[\w.-]{1,255}|\b(?:[\w-]{1,63}\.){2,8}[a-z]{2,20}\b",
    re.I,
)
# A relay's words around the answer of the next server: Exchange, IronPort, Postfix, Exim and others.
WRAPPERS = re.compile(
    r" -> |\bsaid: |\bremote (?:mail )?server (?:returned|replied|responded)(?: with)?[: ]+|\d{3}-'"
    r"|\bResponse: |\breason: ",
    re.I,
)
# A relay's categories, which say nothing about the answer that they quote, and advice to the reader.
CATEGORIES = re.compile(
    r"\b(?:check|verify|correct|review)\b[^.]{0,80}\b(?:try|send|resend)(?:ing)?\b(?: again| it again)?|"
    r"unknown address error|other mail system problem|other or undefined [\w ]{0,40}|permanent (?:failure|error)",
    re.I,
)
# Microsoft's edge servers say this of an address that is not in the directory.
NOT_IN_DIRECTORY = re.compile(r"recipient address rejected: access denied", re.I)

# Each of these makes a bounce soft.
SOFT_TEXT = re.compile(
    "|".join(
        (
            # Rates and limits.
            r"\brate\b|rate[ -]?limit|too (?:many|much|quickly|fast|large|big|long)|throttl|limit(?:s|ed)?\b"
            r"|exceed|quota|temporar|try (?:again|later)|again later|\blater\b|gr[ea]ylist|daily|hourly|per (?:hour"
            r"|day|minute)|busy",
            # Full mailboxes.
            r"(?:mail ?box|inbox|account|quota|disk|folder|storage|mail ?store|file system|recipient|user"
            r")\b.{0,40}\bfull\b"
            r"|\bis full\b|\bfull mailbox|out of (?:disk |storage )?space|(?:insufficient|not enough|no)\b.{0,20}\b"
            r"(?:storage"
            r"|space)\b"
            r"|storage space|size (?:limit|exceed)|disk full|is over\b",
            # Authentication and the sender.
            r"\bspf\b|dkim|dmarc|authenti[cf]|authori[sz]|\bptr\b|reverse (?:dns|lookup)|rdns|\b(?:helo|ehlo)\b"
            r"|\bdns mx or\b"
            r"|invalid dns"
            r"|\bsenders?\b(?!'?s? ?rejected by recipient)|mail ?from\b|return[- ]path|\bfrom (?:address|header"
            r"|field)|your (?:domain|ip|server|host|mail server)"
            r"|sending (?:ip|server|host|domain|mta|mail)|client host|\brejected your\b|envelope from"
            r"|verification failed for|callout",
            # Blocklists, spam, content.
            r"block|black ?list|bl[ao]cklist|white ?list|\b(?:dns|x|u|surb)?[rb]bl\b|dnsbl|spamhaus|spamcop"
            r"|barracuda|reputation|banned|abus|suspicious"
            r"|(?<!not )\blisted (?:in|at|on|by)\b|blocked|spam|unsolicited|\bjunk\b|\bbulk|phish|virus|malware"
            r"|infected"
            r"|content (?:filter|reject|restrict|not)|(?:due to|because of) (?:the )?(?:content|message)"
            r"|message content|attachment|objectionable",
            # Policies and permissions.
            r"polic(?:y|ies)|prohibit|restrict|permission|permitted|not allowed|relay|denied|deny|refused by"
            r"|security|trust|filter"
            r"|only accept|not accept(?:ed|ing)? (?:any )?(?:mail|message|email)s? from|confirm|challenge",
            # Routes and connections.
            r"\bloop|too many hops|hop count|timed? ?out|time-?out|connection (?:refused|lost|dropped|reset|closed"
            r"|failed)|expired|retry time|cannot connect|could(?: not|n't) connect"
            r"|unable to connect|no route to host|unreachable|lost connection|conversation with"
            r"|failing for a long time|name server (?:reply|failure|error)"
            r"|starttls|\btls\b|certificate|encrypt|protocol (?:error|violation)|syntax error in (?:command"
            r"|parameters)|configuration|misconfigur",
            # Other languages: full, spam, blocked, later.
            r"überschritten|pleine|plein\b|llen[oa]\b|cheia|pien[oa]\b|переполнен|превышен|спам|已满|满了|超过|垃圾|容量|いっぱい|拒否",
        )
    ),
    re.I,
)
THING = (
    r"(?:users?|recipients?|mail-?boxe?s?|mail ?box|address(?:es|ee)?|accounts?|person|destination|domains?|hosts?"
    r"|customer|local[ -]?part"
    r"|user ?name|recipient name|alias|member|subscriber|e-?mail|login|rcpt|mail ?user|inbox|people|employee)"
)
BETWEEN = r"[\w\s'\"<>()\[\]@.,:+=/;-]{0,60}?"
# Each of these makes a bounce hard, if none of the above was found.
HARD_TEXT = re.compile(
    "|".join(
        (
            rf"\b(?:no such|unknown|invalid|non-?existent|not existing|bad|wrong|incorrect|illegal|inactive|disabled"
            rf"|unresolvable|deleted|closed|inexistent|unroute?able|un-?routable|obsolete"
            rf"|unregistered){BETWEEN}\b{THING}\b",
            rf"\b{THING}\b{BETWEEN}\b(?:unknown|not? (?:be )?found|can(?:no|')?t be (?:found|resolved)|not resolve"
            rf"|does(?: not|n[o']?t| n't) (?:exist|have)|do(?: not|n't) exist|not exist|didn't exist|non-?existent"
            r"|no longer|disabled|inactive|invalid|in-?valid|unavailable|deactivated|terminated"
            r"|discontinued|suspended"
            r"|not (?:a |an |currently |yet )?(?:known|valid|exists?|recogni[sz]ed|available|active|in use|listed"
            r"|registered|here|on (?:this|our) (?:server|system|host))"
            r"|(?:has been|was|is|been) (?:deleted|closed|cancell?ed|removed|dead|discarded|gone)"
            r"|name is not recogni[sz]ed|wasn'?t found|weren'?t found|couldn'?t be found|could not be found"
            r"|can ?not be found)\b",
            rf"\b(?:no|not our|not a|not an|not any|isn't a|is not|couldn'?t find|can(?:no|')?t find|cannot find"
            rf"|unable to find|could not find)\b{BETWEEN}\b(?:{THING})\b(?:.{{0,40}}\b(?:here|name|exist|found"
            rf"|called|named|specified)\b|\s*$)",
            r"no such|user unknown|unknown user|unrout(?:e)?able|does not like recipient|not our customer"
            r"|addressee unknown|nobody here|unknown to (?:us|this)",
            r"doesn't have an? \S{0,80} account|no mailbox|mailbox not found|no account"
            r"|not listed in (?:the )?(?:domino|public|directory|name|address)",
            r"recipient (?:rejected|unknown|not found)|no (?:valid )?mail ?exchanger|indicated no smtp service"
            r"|null ?mx|domain does not accept (?:mail|email)|no longer (?:valid|active|exists?|available|in use"
            r"|on (?:this )?server|with|employed|works?|accept|receiv|monitor|used|serviced|a (?:valid|customer))",
            r"couldn't find any host|host (?:or domain name )?not found|unknown host|host unknown"
            r"|domain (?:name )?not found|name or service not known|nxdomain|non-?existent domain|domain (?:does not"
            r"|doesn't) exist|invalid host ?name|illegal host",
            r"mailbox unavailable|address rejected: undeliverable|unknown or illegal alias|delivery to deleted"
            r"|moved (?:to|away)|has moved|final email delivery point|invalid final delivery"
            r"|forwarding address|recipnotfound|recipientnotfound|is not an? active|adr\.exrecip",
            # Address rejected, as the last words.
            r"(?<!recipient )(?<!sender )address rejected[\W\d]*$",
            # Other languages.
            r"utilisateur inconnu|adresse (?:inconnue|invalide)|destinataire (?:inconnu|invalide)|n'existe pas"
            r"|boîte .{0,20}désactivée|compte .{0,20}(?:inexistant|inactif|désactivé)",
            r"(?:benutzer|empf(?:ä|ae)nger|adresse|postfach|konto|mailbox)\b.{0,40}(?:unbekannt|existiert nicht"
            r"|nicht gefunden|ungültig|gibt es nicht|nicht vorhanden|deaktiviert)|unbekannter? (?:empf|benutzer"
            r"|adresse)",
            r"(?:usuario|usuário|destinatario|destinatário|cuenta|conta|dirección|endereço|buzón|casella|utente"
            r"|indirizzo)\b.{0,40}(?:desconocid[oa]|desconhecid[oa]|no existe|não existe|inexistente|inválid[oa]"
            r"|non valid[oa]|inativ[ao]|sconosciut[oa]|non esiste|inesistente|no encontrad|não encontrad|non trovat)",
            r"(?:пользовател|адрес|ящик|получател)\w*.{0,40}(?:не найден|не существует|неизвестен|не зарегистрирован"
            r"|отключен|заблокирован|недействител)|нет такого|нет пользователя",
            r"(?:用户|用戶|邮箱|郵箱|帐号|账号|帳號|收件人|地址|收信人).{0,20}(?:不存在|未找到|无效|無效|错误|未知)|不存在的",
            r"(?:ユーザ|アドレス|宛先|メールボックス|あて先).{0,30}(?:不明|存在しません|見つかりません|存在しない|見つかりませんでした)",
            r"(?:użytkownik|adres|skrzynka|konto)\w*.{0,40}(?:nieznany|nie istnieje|nieprawidłow)|nieznany użytkownik",
            r"(?:gebruiker|adres|postbus|ontvanger)\b.{0,40}(?:onbekend|bestaat niet|niet gevonden|ongeldig)",
        )
    ),
    re.I,
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


def says_too_many_connections(words: str) -> bool:
    """Return whether a server says that it has too many connections of ours."""
    return bool(TOO_MANY_CONNECTIONS.search(words))


def says_no_such_mailbox(words: str, *, status: str = "") -> bool:
    """Return whether the text, or a separate status, says that the mailbox does not exist."""
    return mailbox_verdict(words, status=status) is True


def mailbox_verdict(words: str, *, status: str = "") -> bool | None:
    """Return True if a refusal says that the mailbox does not exist, False if it gives another reason, else None."""
    answers = WRAPPERS.split(" ".join(words[:MAX_WORDS_LENGTH].split()))
    for answer in reversed(answers):
        if (found := verdict_of_answer(answer)) is not None:
            return found
    code = next((code_text(found) for found in reversed(ENHANCED.findall(status))), "")
    return True if code in HARD_CODES else False if code.startswith("4") or code in SOFT_CODES else None


def verdict_of_answer(answer: str) -> bool | None:
    """Return whether one server's answer says that the mailbox does not exist; None if it does not say."""
    text = CATEGORIES.sub(" ", NAMES.sub(" ", answer.replace("\\'", "'")))
    codes = [code_text(found) for found in ENHANCED.findall(text)]
    code = codes[-1] if codes else ""
    reply = ANY_REPLY_CODE.search(text) or REPLY_CODE.match(text)
    if code.startswith("4") or (reply is not None and reply[1] not in REFUSING):
        return False
    if code == "5.4.1" and NOT_IN_DIRECTORY.search(text):
        return True
    if code in SOFT_CODES or code.split(".")[1:2] == [CONTENT_SUBJECT] or SOFT_TEXT.search(text):
        return False
    if code in HARD_CODES or HARD_TEXT.search(text):
        return True
    return None if code in ("", "5.0.0") else False


def code_text(found: tuple[str, str, str]) -> str:
    return ".".join(str(int(part)) for part in found)

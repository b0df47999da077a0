"""Bounce rules: hard and soft refusals in the words of real servers, each with its evidence."""

from time import process_time

from delivery.channels.bounce_rules import mailbox_verdict, says_no_such_mailbox

HARD, SOFT = True, False

# The sources: documentation of the servers and providers, or the RFC whose code or text it is.
RFC3463 = "RFC 3463"
RFC5321 = "RFC 5321, 4.2.3"
RFC7505 = "RFC 7505 (null MX)"
GMAIL = "Google: Gmail SMTP errors and codes (support.google.com/a/answer/3726730)"
EXCHANGE = "Microsoft: Email non-delivery reports and SMTP errors in Exchange Online"
DBEB = "Microsoft: NDR error code 550 5.4.1 (the address is not in the directory)"
OUTLOOK = "Microsoft, as explained in spamresource.com, 2023-09 (four forms of an invalid user)"
OLC = "Microsoft: Outlook.com postmaster, SMTP error codes"
ON_PREMISES = "Microsoft: Exchange Server, NDR codes"
YAHOO = "Yahoo: SMTP error codes (senders.yahooinc.com)"
POSTFIX = "Postfix: postconf(5), smtpd(8), bounce(5)"
EXIM = "Exim: specification, chapters on routers and retries"
QMAIL = "qmail: qmail-send(8), qmail-remote(8)"
SENDMAIL = "Sendmail: src/sysexits, mailer errors"
IRONPORT = "Cisco: Email Security Appliance, bounce codes"
SES = "Amazon SES: notification contents, SMTP responses"
SENDGRID = "Twilio SendGrid: bounces and blocks"
MIMECAST = "Mimecast: SMTP error codes"
PROOFPOINT = "Proofpoint: SMTP responses"
DOMINO = "HCL Domino: delivery failure reports"
APPLE = "Apple: postmaster information for iCloud Mail"
MAIL_RU = "Mail.ru: postmaster, SMTP errors"
YANDEX = "Yandex Mail: bounce messages"
GMX = "GMX and WEB.DE: postmaster, error messages"
ORANGE = "Orange: postmaster, error codes OFR"
QQ = "Tencent: QQ Mail, bounce reasons"
ISP = "text of an internet provider, as reported by its customers"
JUDGED = "judged: the text gives no certain reason, so the bounce is soft"

# Status field, text, verdict, evidence.
REFUSALS = [
    # An address or a domain that does not exist.
    ("", "550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking", HARD, GMAIL),
    ("", "550 5.2.1 The email account that you tried to reach is disabled.", HARD, GMAIL),
    ("", "550 5.2.1 The email account that you tried to reach is inactive.", HARD, GMAIL),
    ("", "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", HARD, OUTLOOK),
    ("", "550 5.4.1 Recipient address rejected: Access denied", HARD, OUTLOOK),
    ("5.4.1", "550 5.4.1 [ada@x.example]: Recipient address rejected: Access denied [AM9.outlook.com]", HARD, DBEB),
    ("", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", HARD, EXCHANGE),
    ("", "550 5.1.1 RESOLVER.ADR.ExRecipNotFound; not found", HARD, EXCHANGE),
    ("", "550 5.1.351 Remote server returned unknown recipient or mailbox unavailable -> 550 No user", HARD, EXCHANGE),
    ("", "550 5.4.310 DNS domain nosuch.example does not exist [Message=InfoDomainNonexistent]", HARD, EXCHANGE),
    ("5.4.4", "550 5.4.4 SMTPSEND.DNS.NonExistentDomain; nonexistent domain", HARD, ON_PREMISES),
    ("5.4.4", "Host or domain name not found. Name service error for name=x.example: Host not found", HARD, POSTFIX),
    ("", "The recipient name is not recognized MSEXCH:IMS:X:MX:1 0 (000C05A6) Unknown Recipient", HARD, ON_PREMISES),
    ("5.1.1", "The e-mail address could not be found. Perhaps the recipient moved", HARD, ON_PREMISES),
    ("", "The e-mail address could not be found. Check the address and try again.", HARD, ON_PREMISES),
    ("", "554 delivery error: dd This user doesn't have a yahoo.com account (ada@yahoo.com) [0]", HARD, YAHOO),
    ("", "554 delivery error: dd Requested mail action aborted: mailbox not found", HARD, YAHOO),
    (
        "",
        "554 30 Sorry, your message to a@x cannot be delivered. This mailbox is disabled (554.30)",
        HARD,
        YAHOO,
    ),
    ("", "550 5.1.1 <ada@icloud.com>: user does not exist", HARD, APPLE),
    ("", "550 5.1.1 <ada@x.example>: Recipient address rejected: User unknown in local recipient table", HARD, POSTFIX),
    ("", "550 <a@x.example>: Recipient address rejected: undeliverable address: host said: 550 no", HARD, POSTFIX),
    ("5.0.0", "host mx.x.example[192.0.2.1] said: 550 unknown user (in reply to RCPT TO command)", HARD, POSTFIX),
    ("", "550 Unrouteable address", HARD, EXIM),
    ("", "all relevant MX records point to non-existent hosts", HARD, EXIM),
    ("", "an MX or SRV record indicated no SMTP service", HARD, EXIM),
    ("", "550 No such user here", HARD, EXIM),
    ("", "550 sorry, no mailbox here by that name. (#5.1.1)", HARD, QMAIL),
    ("", "Sorry, I couldn't find any host named x.example. (#5.1.2)", HARD, QMAIL),
    ("", "192.0.2.9 does not like recipient. Remote host said: 550 ada@x.example... No such user", HARD, QMAIL),
    ("", "550 5.1.1 <ada@x.example>... User unknown", HARD, SENDMAIL),
    ("5.1.2", "Host unknown (Name server: x.example: host not found)", HARD, SENDMAIL),
    ("5.0.0", "5.1.0 - Unknown address error 550-'5.1.1 User unknown' (delivery attempts: 0)", HARD, IRONPORT),
    ("5.3.0", "5.3.0 - Other mail system problem 554-'This user doesn\\'t have an account'", HARD, IRONPORT),
    ("", "550 #5.1.0 Address rejected.", HARD, IRONPORT),
    ("", "550 Recipient Rejected: No account by that name here", HARD, PROOFPOINT),
    ("", "550 Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550 [abc.uk1]", HARD, MIMECAST),
    ("", "User ada (ada@x.example) not listed in Domino Directory", HARD, DOMINO),
    ("5.7.1", "550 5.7.1 No such user!", HARD, YANDEX),
    (
        "",
        "550 Message was not accepted -- invalid mailbox. Local mailbox a@x is unavailable",
        HARD,
        MAIL_RU,
    ),
    ("", "550-Requested action not taken: mailbox unavailable 550 The account does not exist", HARD, GMX),
    ("", "550 5.1.1 Adresse d au moins un destinataire invalide. Invalid recipient. OFR204_418 [418]", HARD, ORANGE),
    ("", "550 Mailbox not found. http://service.mail.qq.com/detail/122/168", HARD, QQ),
    ("", "550 5.1.2 Host unknown (Name server: host not found)", HARD, RFC3463),
    ("", "550 5.1.6 Recipient no longer on server", HARD, RFC3463),
    ("", "553 5.1.3 Invalid address format", HARD, RFC3463),
    ("", "556 5.1.10 Recipient address has null MX", HARD, RFC7505),
    ("", "550 Account is no longer valid", HARD, ISP),
    ("", "550 Conta inexistente", HARD, ISP),
    ("", "550 5.1.1 Empfänger unbekannt", HARD, ISP),
    ("", "550 用户不存在", HARD, ISP),
    ("5.1.1", "delivery failed", HARD, RFC3463),
    ("5.1.1", "", HARD, RFC3463),
    # Names of hosts and addresses say nothing, whatever words they contain.
    ("", "550 5.1.1 <spam.blocked@full.example>: User unknown [mx.antispam-filter.example.com]", HARD, POSTFIX),
    # Rates.
    (
        "",
        "550-5.2.1 The user you are trying to contact is receiving mail at a rate that 550 5.2.1 stops",
        SOFT,
        GMAIL,
    ),
    ("", "550 5.2.1 The user you are trying to contact is receiving mail too quickly.", SOFT, GMAIL),
    ("5.1.1", "550 5.1.1 <a@x.example> - 203.0.113.2 has sent to too many recipients this hour. IB607", SOFT, ISP),
    ("", "550 5.1.90 Your message can't be sent because you've reached your daily limit", SOFT, EXCHANGE),
    ("", "550 5.4.5 Daily user sending limit exceeded", SOFT, GMAIL),
    # Full mailboxes.
    ("", "552 5.2.2 The email account that you tried to reach is over quota", SOFT, GMAIL),
    ("", "452 4.2.2 Mailbox full", SOFT, RFC3463),
    ("5.0.0", "5.1.0 - Unknown address error 550-'5.2.2 <a@x.example>... Mailbox Full' (attempts: 0)", SOFT, SES),
    ("5.1.1", "550 Mailbox full", SOFT, RFC3463),
    ("", "554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException.MapiException", SOFT, EXCHANGE),
    ("", "552 sorry, that recipient's mailbox is over quota", SOFT, QMAIL),
    ("", "550 <ada@x.example>: inbox is full, the user has no storage space", SOFT, ISP),
    # SPF, blocklists, spam, policies.
    ("", "550 5.1.0 192.0.2.2 is not allowed to send from <x.example> per its SPF Record", SOFT, ISP),
    ("", "550 5.7.26 This mail is unauthenticated, which poses a security risk", SOFT, GMAIL),
    ("", "550 5.7.1 Our system has detected that this message is likely unsolicited mail", SOFT, GMAIL),
    ("", "550 5.7.1 Service unavailable, Client host [192.0.2.4] blocked using Spamhaus", SOFT, EXCHANGE),
    ("", "550 5.7.606 Access denied, banned sending IP [192.0.2.4]", SOFT, EXCHANGE),
    ("", "550 5.7.1 RESOLVER.RST.AuthRequired; authentication required", SOFT, EXCHANGE),
    ("", "550 SC-001 Unfortunately, messages from 192.0.2.4 weren't sent. You are on our block list", SOFT, OLC),
    ("", "554 5.7.1 <ada@x.example>: Relay access denied", SOFT, POSTFIX),
    ("", "554 5.7.1 <ada@x.example>: Recipient address rejected: Access denied", SOFT, POSTFIX),
    ("", "550 Message rejected as spam: no such user would want it", SOFT, JUDGED),
    ("", "550 Rejected by header based manually Blocked Senders", SOFT, MIMECAST),
    ("", "554 delivery error: dd Message not accepted for policy reasons", SOFT, YAHOO),
    ("5.0.0", "5.1.0 - Unknown address error 554-'Message rejected' (delivery attempts: 0)", SOFT, IRONPORT),
    ("", "550 Requested action not taken: mailbox unavailable 550 invalid DNS MX or A/AAAA resource record", SOFT, GMX),
    ("", "550 5.1.351 Remote server returned unknown recipient -> 550 5.7.1 blocked by policy", SOFT, EXCHANGE),
    # The sender, and the stage before the recipient.
    ("", "550 5.1.8 <ada@x.example>: Sender address rejected: Domain not found", SOFT, POSTFIX),
    ("", "550 5.1.7 Invalid sender address", SOFT, RFC3463),
    ("", "550 Sender unknown", SOFT, RFC5321),
    ("", "550-Verification failed for <x@y> 550-No Such User Here 550 Sender verify failed", SOFT, EXIM),
    ("", "550 5.1.1 User unknown (in reply to MAIL FROM command)", SOFT, POSTFIX),
    ("5.1.0", "550 5.1.0 <ada@x.example> Sender denied", SOFT, ON_PREMISES),
    # Temporary, expired, routes, size, content.
    ("", "451 4.1.1 user unknown for now", SOFT, RFC3463),
    ("", "450 Requested mail action not taken: mailbox unavailable", SOFT, RFC5321),
    ("5.4.7", "550 4.4.7 QUEUE.Expired; message expired", SOFT, EXCHANGE),
    ("", "550 5.4.300 Message expired -> 421 4.4.1 Connection timed out", SOFT, EXCHANGE),
    ("5.4.7", "connection timed out", SOFT, SENDGRID),
    ("4.4.2", "retry timeout exceeded", SOFT, EXIM),
    ("5.4.6", "554 5.4.6 Hop count exceeded - possible mail loop", SOFT, EXCHANGE),
    ("", "552 5.3.4 Message size exceeds fixed limit", SOFT, POSTFIX),
    ("5.6.0", "550 5.6.0 The message is invalid for this user", SOFT, RFC3463),
    ("5.1.4", "550 5.1.4 RESOLVER.ADR.Ambiguous; ambiguous address", SOFT, EXCHANGE),
    ("", "551 User not local", SOFT, RFC5321),
    # No certain reason.
    ("", "550 no", SOFT, JUDGED),
    ("", "Undeliverable address", SOFT, JUDGED),
    ("", "Please check the above address(es) and then try again.", SOFT, JUDGED),
    ("", "", SOFT, JUDGED),
    ("5.7.1", "delivery failed", SOFT, RFC3463),
    ("4.2.2", "delivery failed", SOFT, RFC3463),
    ("5.0.0", "delivery failed", SOFT, RFC3463),
]


def test_only_a_refusal_that_says_so_is_a_hard_bounce():
    wrong = [
        f"{status!r} {words!r} is {'hard' if hard else 'soft'} ({source})"
        for status, words, hard, source in REFUSALS
        if says_no_such_mailbox(words, status=status) is not hard
    ]

    assert wrong == []


def test_refusal_without_a_reason_has_no_verdict():
    assert [mailbox_verdict(words) for words in ("", "550 no", "delivery failed", "550 5.0.0 failed")] == [None] * 4
    assert [mailbox_verdict(words) for words in ("550 user unknown", "550 5.7.1 no")] == [True, False]


def test_hostile_text_is_judged_in_linear_time():
    began = process_time()
    for piece in ("550 no ", "user ", "a@", "<a", "mailbox is ", "no such ", "5.1.", "x.", "'\"", "said: "):
        mailbox_verdict(piece * 100_000, status=piece * 100)

    assert process_time() - began < 10

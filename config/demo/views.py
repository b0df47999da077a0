"""`/demo/mail/`: the emails that the demo's mail server received. Only with DEMO."""

from email.message import EmailMessage
from email.utils import parseaddr
from itertools import islice

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from config.demo import mail as kept
from delivery import reply_addresses
from delivery.inbound import router
from delivery.inbound.message import InboundEmail
from delivery.inbound.router import Outcome
from delivery.reply_addresses import Purpose

EMAILS_SHOWN_MAX = 100
SHOWN_HEADERS = ("From", "To", "Reply-To", "Subject", "Date", "Message-ID", "List-Unsubscribe")


@require_safe
def mails(request: HttpRequest) -> HttpResponse:
    """List the newest emails, of all recipients or one."""
    recipient = request.GET.get("to", "")
    found = list(kept.list_newest(folder=kept.FOLDER, recipient=recipient))
    shown = [(mail, mail.parse()) for mail in islice(found, EMAILS_SHOWN_MAX)]
    return render(request, "demo/emails.html", {"shown": shown, "count": len(found), "recipient": recipient})


@require_http_methods(["GET", "HEAD", "POST"])
def mail(request: HttpRequest, key: str) -> HttpResponse:
    """Show one email: headers, HTML part and text part. A POST replies to it."""
    found = kept.find_email(key, folder=kept.FOLDER)
    if found is None:
        raise Http404("There is no such email.")
    read = found.parse()
    words = request.POST.get("words", "").strip()
    if request.method == "POST" and words:
        outcome = answer(read, words=words, sender=found.recipient)
        return redirect(f"{request.path}?came={outcome}#reply")
    context = {
        "mail": found,
        "headers": [(name, read[name]) for name in SHOWN_HEADERS if read[name]],
        "subject": read["Subject"],
        "html": part(read, "html"),
        "text": part(read, "plain"),
        "comes_back": bool(reply_addresses.token_in(parseaddr(str(read["Reply-To"] or ""))[1], purpose=Purpose.REPLY)),
        "came": request.GET.get("came", ""),
        "is_in_inbox": request.GET.get("came") == Outcome.REPLY,
    }
    return render(request, "demo/email.html", context)


def answer(read: EmailMessage, *, words: str, sender: str) -> Outcome:
    """Receive a reply as an email to the reply address."""
    now = timezone.now()
    written = kept.compose_reply(read, words=words, sender=sender, at=now)
    to = parseaddr(str(read["Reply-To"] or ""))[1]
    return router.receive(InboundEmail.parse(written, recipient=to, envelope_sender=sender), at=now)


def part(read: EmailMessage, kind: str) -> str:
    """Return the HTML or plain part of the email; "" if it has none."""
    found = read.get_body(preferencelist=(kind,))
    return str(found.get_content()) if found else ""

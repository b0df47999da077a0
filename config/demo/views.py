"""`/demo/mail/`: what the demo's mail server took. Routed only where DEMO is set."""

from email.message import EmailMessage
from itertools import islice

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from config.demo import mail as kept

MOST_SHOWN = 100
SHOWN_HEADERS = ("From", "To", "Reply-To", "Subject", "Date", "Message-ID", "List-Unsubscribe")


@require_safe
def mails(request: HttpRequest) -> HttpResponse:
    """List the newest mails, all or one recipient's."""
    recipient = request.GET.get("to", "")
    found = list(kept.newest(folder=kept.FOLDER, recipient=recipient))
    shown = [(mail, mail.read()) for mail in islice(found, MOST_SHOWN)]
    return render(request, "demo/mails.html", {"shown": shown, "count": len(found), "recipient": recipient})


@require_safe
def mail(request: HttpRequest, key: str) -> HttpResponse:
    """Show one mail: its headers, its HTML part as a mail program would, and its text part."""
    found = kept.find(key, folder=kept.FOLDER)
    if found is None:
        raise Http404("This mail is not here.")
    read = found.read()
    context = {
        "mail": found,
        "headers": [(name, read[name]) for name in SHOWN_HEADERS if read[name]],
        "subject": read["Subject"],
        "html": part(read, "html"),
        "text": part(read, "plain"),
    }
    return render(request, "demo/mail.html", context)


def part(read: EmailMessage, kind: str) -> str:
    """Return the mail's HTML or plain part, or nothing."""
    found = read.get_body(preferencelist=(kind,))
    return str(found.get_content()) if found else ""

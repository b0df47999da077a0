"""Emails about accounts, which threads of the web process send."""

import re

from django.core import mail
from django.core.mail import EmailMessage


def wait_for_account_mail() -> None:
    """Wait until no email about an account is on its way."""
    from outbound.signin import adapter

    slots = range(adapter.WAITING_MAILS_MOST)
    assert all(adapter.waiting_mails.acquire(timeout=20) for _ in slots)
    for _ in slots:
        adapter.waiting_mails.release()


def account_mails() -> list[EmailMessage]:
    """Return the emails sent so far."""
    wait_for_account_mail()
    return list(mail.outbox)


def link_in(message: EmailMessage) -> str:
    """Return the first link of an email, without the host."""
    return re.search(r"https?://[^/\s]+(/\S+)", message.body)[1]

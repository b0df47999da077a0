"""Confirmation emails: ask the owner of an address whether they want emails (double opt-in, behaviour 4.30).

They contain no tracking and no text of a visitor, because anyone can type any address.
"""

from datetime import datetime
from email.utils import formataddr

from django.db.models import QuerySet
from django.template.loader import render_to_string

from audiences.models import ConfirmationMail, Suppression, Workspace
from audiences.models.consent import askable_customers
from delivery import rendering, reply_addresses
from delivery.channels import Envelope
from delivery.reply_addresses import ReferentKind
from delivery.sending.urgent import dispatcher
from messaging.models import Sender


class ConfirmationEmails(dispatcher.Kind[ConfirmationMail]):
    """The emails with a link that confirms an address."""

    outbox = dispatcher.outbox_of(ConfirmationMail)

    def claimable(self, *, at: datetime) -> QuerySet[ConfirmationMail]:
        return ConfirmationMail.objects.due(at)

    def reason_not_to_send(self, mail: ConfirmationMail, *, at: datetime) -> str:
        if not Workspace.current().double_opt_in:
            return "Leads do not confirm their address any more."
        if mail.address is None:
            return "The customer was erased."
        if Suppression.objects.active().of_address(mail.address).exists():
            return "The address is on the suppression list."
        if not askable_customers().with_address(mail.address).exists():
            return "Nobody has this address who must confirm it."
        return ""

    def build_envelope(self, mail: ConfirmationMail) -> Envelope:
        workspace = Workspace.current()
        sender = Sender.objects.shared_or_default(name=workspace.name)
        about = {"workspace": workspace, "url": rendering.confirmation_url(mail)}
        return Envelope(
            to=(mail.address or "",),
            subject=f"Confirm your email address for {workspace.name}",
            html=render_to_string("delivery/confirmation.html", about),
            text=render_to_string("delivery/confirmation.txt", about),
            sender=formataddr((sender.name, sender.email)),
            reply_to=sender.reply_to or sender.email,
            return_path=reply_addresses.return_path(ReferentKind.CONFIRMATION, mail.pk),
            message_id=reply_addresses.confirmation_message_id(mail),
            headers={"Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "OOF, AutoReply"},
        )

    def describe(self, mail: ConfirmationMail) -> str:
        return f"confirmation email {mail.pk}"


CONFIRMATION_EMAILS = ConfirmationEmails()

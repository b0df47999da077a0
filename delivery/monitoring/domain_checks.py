"""Checks of the domains of senders: claimed, carried out without a transaction, and stored with their time."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db.models import Q

from messaging.models import Sender, SendingDomain
from messaging.models.sending_domain import Verdict, is_reserved

log = logging.getLogger(__name__)

# A process has this long to check a domain; then another one may.
CHECK_LEASE = timedelta(minutes=1)
# The daily task may run in several turns.
CHECKED_TODAY = timedelta(hours=12)


def sender_domains() -> list[str]:
    """Return the domains of all senders that can be checked, in alphabetical order."""
    found = {sender.domain for sender in Sender.objects.only("email")}
    return sorted(domain for domain in found if not is_reserved(domain))


def check_domain(name: str, *, at: datetime) -> bool:
    """Check a domain and store the findings. Return False if another process is checking it."""
    # It loads for a second, and few processes check domains.
    from delivery.monitoring import domain_dns

    SendingDomain.objects.get_or_create(name=name)
    rows = SendingDomain.objects.filter(pk=name)
    if not rows.filter(Q(checking_until=None) | Q(checking_until__lt=at)).update(checking_until=at + CHECK_LEASE):
        return False
    domain = rows.get()
    domain.findings = domain_dns.check_domain(name, selector=domain.dkim_selector)
    ends_allowance = not domain.findings_with(Verdict.REJECTED, Verdict.UNANSWERED)
    if ends_allowance and domain.allowed_at:
        log.info("domain %s is no longer rejected, which ends the permission to send anyway", name)
    found = {"findings": domain.findings, "checked_at": at, **({"allowed_at": None} if ends_allowance else {})}
    if not rows.filter(dkim_selector=domain.dkim_selector).update(checking_until=None, **found):
        # A teammate entered another selector meanwhile, so these findings say nothing.
        rows.update(checking_until=None, checked_at=None)
    return True


def check_sender(sender: Sender | None, *, at: datetime) -> None:
    """Check the domain of a sender before an email goes live, if there is no recent check."""
    if sender is None or is_reserved(sender.domain):
        return
    known = SendingDomain.objects.filter(pk=sender.domain).first()
    if known is None or known.is_due(at=at):
        check_domain(sender.domain, at=at)


def check_all(*, clock: Callable[[], datetime], go_on: Callable[[], bool]) -> bool:
    """Check the domains of all senders that were not checked today, and forget others. Return whether all are done."""
    names = sender_domains()
    SendingDomain.objects.exclude(pk__in=names).filter(checking_until=None).delete()
    checked = SendingDomain.objects.filter(checked_at__gt=clock() - CHECKED_TODAY).values_list("pk", flat=True)
    for name in sorted(set(names).difference(checked)):
        if not go_on():
            return False
        check_domain(name, at=clock())
    return True

"""Limits of failed logins: django-axes counts them in the database, so for all web processes.

LOGIN_TRIES is for one name from one IP address, so that strangers lock out only themselves. The limits for one name
from all addresses, and for one address, which a whole office may share, are higher. django-axes has one limit for all.
"""

from typing import Any

from axes.attempts import get_cool_off_threshold
from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_client_username, get_failure_limit
from axes.models import AccessAttempt
from django.db.models import Sum
from django.http import HttpRequest

FAILED_LOGINS_BY_NAME, FAILED_LOGINS_BY_ADDRESS = 50, 50


class LoginLimits(AxesDatabaseHandler):
    """Lock a login if any of the three limits is reached."""

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Return the failed logins of this name and address, or the limit of the pair if another limit is reached."""
        failures = int(super().get_failures(request, credentials))
        name, address = get_client_username(request, credentials), request.axes_ip_address  # type: ignore[attr-defined]
        recent = AccessAttempt.objects.filter(attempt_time__gte=get_cool_off_threshold(request))
        limits = [(recent.filter(username=name), FAILED_LOGINS_BY_NAME)]
        if address is not None:
            limits.append((recent.filter(ip_address=address), FAILED_LOGINS_BY_ADDRESS))
        for attempts, limit in limits:
            if (attempts.aggregate(sum=Sum("failures_since_start"))["sum"] or 0) >= limit:
                return max(failures, get_failure_limit(request, credentials))
        return failures


def count_failure(request: HttpRequest, username: str) -> None:
    """Count a failed login that Django does not report, such as a wrong code after the right password."""
    AxesProxyHandler.user_login_failed(sender=LoginLimits, credentials={"username": username}, request=request)

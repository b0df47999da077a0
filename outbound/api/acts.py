"""Endpoints that set a message live, sample, schedule, pause, resume and stop it: the buttons of the console."""

from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from audiences.api.base.endpoint import Endpoint, optional_body
from audiences.api.base.errors import MissingField
from audiences.intake import Refused
from audiences.intake.attributes.fields import first_given, read_integer, read_moment
from audiences.rules import RuleError
from delivery.matching import launch_job
from delivery.monitoring import domain_checks
from messaging import authoring
from messaging.models import Message
from outbound import actions
from outbound.api.drafts import callers, refusal_from
from outbound.api.messages import find_message, message_response
from outbound.composer import confirm
from outbound.composer.confirm import PostedCounts


class MessageAct(Endpoint):
    """Base of the acts."""

    rights = {"post": "send"}
    # Its key in the tables of the console.
    verb = ""

    def carry_out(self, request: Request, pk: str, **asked: Any) -> Response:
        """Perform the act, log it under the token, and return the message."""
        message, (by, logged_as) = find_message(pk), callers(request)
        act = {**actions.AFTER_SAVING, **actions.ACTS}[self.verb]
        try:
            actions.do_and_log(logged_as, message, act, at=timezone.now(), by=by, **asked)
        except ValidationError as no:
            raise refusal_from(no) from no
        except RuleError as wrong:
            raise Refused(str(wrong), field="rules") from wrong
        return message_response(pk)


class Launch(MessageAct):
    """Base of the acts that need the confirmation of a large number of people."""

    def launch(self, request: Request, pk: str, **asked: Any) -> Response:
        """Check the message and the confirmation, then perform the act."""
        message = find_message(pk)
        if message.audience is None or message.state not in launch_job.LAUNCHABLE_STATES:
            # Nothing to count: the act itself refuses, with the reason.
            return self.carry_out(request, pk, **asked)
        domain_checks.check_sender(message.sender, at=timezone.now())
        return self.carry_out(
            request, pk, plan=launch_plan(message, optional_body(request), sample=asked.get("sample")), **asked
        )


class SetLive(Launch):
    """/outbound/{id}/live."""

    verb = "live"

    def post(self, request: Request, pk: str) -> Response:
        """Set a draft or a scheduled message live."""
        return self.launch(request, pk)


class Sample(Launch):
    """/outbound/{id}/sample."""

    verb = "sample"

    def post(self, request: Request, pk: str) -> Response:
        """Send a one-off to a random sample first."""
        size = read_integer(optional_body(request).get("sample"), "sample")
        if size is None:
            raise MissingField("Enter how many people should get it first.", field="sample")
        if not 1 <= size <= confirm.MAX_SAMPLE:
            raise Refused(f"sample must be between 1 and {confirm.MAX_SAMPLE:,}.", field="sample")
        return self.launch(request, pk, sample=size)


class SendToRest(Launch):
    """/outbound/{id}/rest."""

    verb = "rest"

    def post(self, request: Request, pk: str) -> Response:
        """Send a sampled one-off to the rest."""
        return self.launch(request, pk)


class Schedule(Launch):
    """/outbound/{id}/schedule."""

    verb = "schedule"

    def post(self, request: Request, pk: str) -> Response:
        """Schedule a one-off."""
        scheduled_for = read_moment(optional_body(request).get("scheduled_for"), "scheduled_for")
        if scheduled_for is None:
            raise MissingField("Choose a day and a time.", field="scheduled_for")
        return self.launch(request, pk, scheduled_for=scheduled_for)


class Unschedule(MessageAct):
    """/outbound/{id}/unschedule."""

    verb = "unschedule"

    def post(self, request: Request, pk: str) -> Response:
        """Make a scheduled message a draft again."""
        return self.carry_out(request, pk)


class CancelLaunch(MessageAct):
    """/outbound/{id}/cancel."""

    verb = "call-off"

    def post(self, request: Request, pk: str) -> Response:
        """Cancel a large launch that a worker has not finished."""
        return self.carry_out(request, pk)


class Pause(MessageAct):
    """/outbound/{id}/pause."""

    verb = "pause"

    def post(self, request: Request, pk: str) -> Response:
        """Pause a live message."""
        return self.carry_out(request, pk)


class Resume(MessageAct):
    """/outbound/{id}/resume."""

    verb = "resume"

    def post(self, request: Request, pk: str) -> Response:
        """Resume a paused message."""
        return self.carry_out(request, pk)


class Stop(MessageAct):
    """/outbound/{id}/stop."""

    verb = "stop"

    def post(self, request: Request, pk: str) -> Response:
        """Stop a message for good."""
        return self.carry_out(request, pk)


def launch_plan(message: Message, sent: dict[str, Any], *, sample: int | None) -> actions.LaunchPlan:
    """Return the plan of a launch. Raise Refused if the message is not ready, or not confirmed as the console asks."""
    for field, sentences in authoring.launch_problems_by_field(message, at=timezone.now()).items():
        raise Refused(" ".join(sentences), field=field)
    reviewed = read_integer(sent.get("reviewed"), "reviewed")
    confirmed = first_given(sent, "confirm")
    asked = PostedCounts(reviewed=reviewed, typed="" if confirmed is None else str(confirmed), sample=sample)
    found = confirm.count_recipients(message, asked, at=timezone.now())
    if found is None:
        return actions.UNCOUNTED
    if unreached := confirm.nobody_reason(message, found):
        raise Refused(unreached, field="rules")
    if drifted := confirm.drift_reason(found, asked):
        raise Refused(drifted, field="reviewed")
    if unconfirmed := confirm.unconfirmed_reason(found, asked):
        raise Refused(unconfirmed, field="confirm")
    return confirm.launch_plan(found, asked)

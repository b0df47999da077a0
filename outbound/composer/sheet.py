"""The final sheet before a launch: its number, ten names, its problems, and the confirmation."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from audiences.models import Customer, Workspace
from delivery.matching import forecast
from delivery.monitoring import domain_checks
from messaging import authoring
from messaging.models import Message, SendType
from outbound import actions
from outbound.composer import confirm
from outbound.composer.confirm import PostedCounts
from outbound.composer.forms import DraftForm
from outbound.composer.matching_people import SHOWN, TIME_LIMIT
from outbound.composer.review import Review, large_sentence, review
from outbound.console.admin import ConsoleAdmin, teammate
from outbound.console.wording import counted

BUTTONS: dict[str, str] = {
    "live": "Set live",
    "sample": "Try it on a few",
    "schedule": "Schedule",
    "rest": "Send to the rest",
}
TITLES: dict[str, str] = {
    "live": "Set “{}” live",
    "sample": "Try “{}” on a few first",
    "schedule": "Schedule “{}”",
    "rest": "Send “{}” to the rest",
}
# The acts of the report that need the sheet.
CONFIRMED_ACTS = ("live", "rest")
SHEET = "outbound/composer/sheet.html"
PAST = "The time must be in the future."
# Where staff correct a field whose element is not called id_<field>.
PLACES: dict[str, str] = {
    "channel": "content-step",
    "format": "content-step",
    "body": "message-text",
    "send_type": "audience-step",
    "rules": "audience-step",
    "window": "audience-step",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """The content of the final sheet."""

    verb: str
    message: Message
    review: Review
    names: list[Customer]
    # Problems that block the launch: the id of the element to correct, and a sentence.
    problems: list[tuple[str, str]] = field(default_factory=list)
    sample: int | None = None
    scheduled_for: datetime | None = None
    # The reason why the server has just refused it.
    refusal: str = ""
    typed: str = ""

    @property
    def title(self) -> str:
        return TITLES[self.verb].format(self.message.title or "this message")

    @property
    def button(self) -> str:
        return BUTTONS[self.verb]

    @property
    def sending(self) -> int:
        """Return the number of people to whom the launch sends."""
        return self.review.receiving if self.sample is None else min(self.sample, self.review.receiving)

    @property
    def to_type(self) -> int:
        """Return the number that the sender types to confirm; 0 if no confirmation is needed."""
        return self.sending if self.sending > Workspace.current().confirm_above else 0

    @property
    def count_sentence(self) -> str:
        """Return the words after the number."""
        if self.sample is not None:
            pool = counted(self.review.receiving, "person", "people")
            return f"chosen at random from the {pool} who can receive it"
        person = "person" if self.sending == 1 else "people"
        if self.verb == "schedule":
            return f"{person} would receive it now"
        is_ongoing = self.message.send_type == SendType.ONGOING
        return f"{person} will receive it now" if is_ongoing else f"{person} will receive it"

    @property
    def left_out_sentence(self) -> str:
        """Return the words above the reasons why people who match do not receive it."""
        people = self.review.people or 0
        return f"{people:,} {'matches' if people == 1 else 'match'}. Left out:"

    @property
    def when(self) -> str:
        """Return when it is sent, and to whom; with its delivery times and quiet hours, if there are any."""
        return f"{self.when_launched} {self.review.window_words}".strip()

    @property
    def when_launched(self) -> str:
        if self.verb == "schedule" and self.scheduled_for:
            local = timezone.localtime(self.scheduled_for)
            return f"It goes live {local:%A %-d %B %Y at %H:%M}, to the people who match then."
        if self.verb == "rest":
            return "It goes to everyone who matches now and was not in the sample."
        if self.verb == "sample":
            return "The others get it when you send it to the rest."
        return " ".join(self.review.sentences[:2])


def posted_sheet(request: HttpRequest, form: DraftForm, draft: Message, *, at: datetime, refusal: str = "") -> Sheet:
    """Return the sheet for a posted composer and the pressed button."""
    verb = request.POST.get("act", "")
    data = form.cleaned_data
    draft.title = form.title_or_first_words() if "title" in data and "source" in data else ""
    problems = [(name, str(sentence)) for name, found in form.errors.items() for sentence in found]
    scheduled_for = data.get("scheduled_for") if verb == "schedule" else None
    if scheduled_for and scheduled_for <= at:
        problems.append(("scheduled_for", PAST))
    return build_sheet(
        request,
        draft,
        verb,
        at=at,
        problems=problems,
        refusal=refusal,
        sample=data.get("sample") if verb == "sample" else None,
        scheduled_for=scheduled_for,
    )


def build_sheet(
    request: HttpRequest,
    message: Message,
    verb: str,
    *,
    at: datetime,
    problems: list[tuple[str, str]] | None = None,
    refusal: str = "",
    sample: int | None = None,
    scheduled_for: datetime | None = None,
) -> Sheet:
    """Count the recipients and return the sheet of a launch."""
    fields = {sentence: name for name, sentence in problems or ()}
    if not problems:
        by_field = authoring.launch_problems_by_field(message, at=scheduled_for or at).items()
        fields = {sentence: name for name, sentences in by_field for sentence in sentences}
    found = review(message, at=at, problems=list(fields))
    # The sheet begins with the number.
    found.warnings = [sentence for sentence in found.warnings if sentence != large_sentence(found)]
    return Sheet(
        verb=verb,
        message=message,
        review=found,
        names=recipient_names(request, message, at=at, within=TIME_LIMIT) if found.receiving else [],
        problems=[(element_id(fields.get(sentence, "rules")), sentence) for sentence in found.problems],
        refusal="" if refusal in found.problems else refusal,
        sample=sample,
        scheduled_for=scheduled_for,
        typed=request.POST.get("confirm", ""),
    )


def element_id(name: str) -> str:
    """Return the id of the element in which staff correct a field."""
    return PLACES.get(name, f"id_{name}")


def recipient_names(request: HttpRequest, message: Message, *, at: datetime, within: timedelta) -> list[Customer]:
    """Return some people who would receive the message; none if the teammate may not see people."""
    if not request.user.has_perm("audiences.view_customer"):
        return []
    keys = forecast.newest_recipients(message, at=at, limit=SHOWN, within=within)
    return list(Customer.objects.filter(pk__in=keys).order_by("-pk"))


def is_from_sheet(request: HttpRequest) -> bool:
    """Whether the answer is shown in the sheet, which a script has opened."""
    return request.headers.get("HX-Target") == "sheet"


def answer_launch(request: HttpRequest, page: str) -> HttpResponse:
    """Lead to the message's page: a script of the sheet needs the header, as it cannot see a redirect."""
    return HttpResponse(headers={"HX-Redirect": page}) if is_from_sheet(request) else HttpResponseRedirect(page)


def carry_out_confirmed(admin: ConsoleAdmin, request: HttpRequest, message: Message, verb: str) -> HttpResponse:
    """Perform an act of the report that the sheet confirms; show the sheet first, and again if the act is refused."""
    at, page = timezone.now(), reverse("admin:messaging_message_change", args=[message.pk])
    domain_checks.check_sender(message.sender, at=at)
    refusal = ""
    if "reviewed" in request.POST:
        asked = PostedCounts.from_post(request.POST)
        found = confirm.count_recipients(message, asked, at=at)
        refusal = confirm.refusal_reason(message, found, asked) if found else ""
        plan = confirm.launch_plan(found, asked) if found else actions.UNCOUNTED
        if not refusal:
            try:
                done = actions.do_and_log(teammate(request), message, actions.ACTS[verb], at=at, plan=plan)
            except ValidationError as no:
                refusal = " ".join(no.messages)
            else:
                messages.success(request, done)
                return answer_launch(request, page)
    shown = build_sheet(request, message, verb, at=at, refusal=refusal)
    if is_from_sheet(request):
        return render(request, SHEET, {"sheet": shown, "page": page})
    return admin.page(
        request,
        "outbound/composer/confirm.html",
        title=message.title,
        crumb="Confirm",
        original=message,
        sheet=shown,
        page=page,
    )

"""The review before a launch: its effect in words and numbers, its problems and its warnings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from audiences.attributes import About, find_attribute
from audiences.models import CustomAttribute, EventName, Workspace
from audiences.models.audience import lead_rules
from audiences.rules import Group, Operator, RuleError
from delivery.matching import forecast as matching_forecast
from delivery.matching.forecast import Forecast
from delivery.models import Reason, reason_label
from messaging import authoring, content, delivery_window
from messaging.models import Channel, Checking, Message, SendType, Style, WindowZone
from outbound.composer.confirm import nobody_reason
from outbound.console.change_message import end_of_showing
from outbound.console.wording import Line, Names, audience_lines, counted, joins_negatives_by_or

AUDIENCE_SENTENCES: dict[SendType, str] = {
    SendType.ONGOING: "Sends to everyone who matches the filters now, and to anyone who matches them in the future.",
    SendType.ONE_OFF: "Sends only to the people who match your audience filters now, not to people who match later.",
}
ONLY_NEW_MATCHES = (
    "Sends to anyone who starts to match the filters after it goes live. The people who match when it goes live are"
    " left out, and an event counts only if it happens after that."
)
TIMING_SENTENCES: dict[SendType, str] = {
    SendType.ONGOING: "The filters are checked every hour, and when a customer visits.",
    SendType.ONE_OFF: "It goes out as soon as you set it live.",
}
IN_APP_TIMING_SENTENCES: dict[SendType, str] = {
    SendType.ONGOING: "It shows when a customer logs in or visits, and matches the filters then.",
    SendType.ONE_OFF: "Each of them sees it on their next visit.",
}
# Of a one-off with delivery times, or that keeps quiet hours.
AT_DELIVERY_TIMES = "Once you set it live, it goes out at its delivery times."
# Of an ongoing email or push that is checked at once.
CHECKED_AT_ONCE = "The filters are checked as soon as something changes, every hour, and when a customer visits."
ANY_TIME = "It can be delivered at any time."
ONCE = "Each customer gets it once."
ONCE_PER_COMPANY = (
    "The text uses a company variable, so each customer gets it once for each of their companies that match."
)


@dataclass(slots=True)
class Review:
    """The content of step 3 and of the summary."""

    sentences: list[str] = field(default_factory=list)
    # None if the rules are invalid.
    lines: list[Line] | None = None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    people: int | None = None
    receiving: int = 0
    copies: int = 0
    per_company: bool = False
    left_out: list[tuple[str, int]] = field(default_factory=list)
    # False while the numbers are an estimate.
    exact: bool = True
    # The number that the sender types to confirm; 0 if no confirmation is needed.
    confirm: int = 0
    window: str = ""
    companies: str = ""
    only_new_matches: bool = False

    @property
    def window_words(self) -> str:
        """Return the delivery times and quiet hours; "" if there are none, as the week says so itself."""
        return "" if self.window == ANY_TIME else self.window

    @property
    def headline(self) -> str:
        """Return the count in one line, such as "812 match now, 790 will receive it"."""
        if self.people is None:
            return "No count yet"
        if not self.people:
            return "No customers match now"
        verb = "matches" if self.people == 1 else "match"
        about = "" if self.exact else "about "
        if self.only_new_matches:
            tail = "all are left out" if self.people > 1 else "and is left out"
        elif self.receiving == self.people:
            tail = "all will receive it" if self.people > 1 else "and will receive it"
        else:
            tail = f"{about}{self.receiving:,} will receive it"
        return f"{about}{self.people:,} {verb} now, {tail}".capitalize()


def audience_sentence(message: Message) -> str:
    return ONLY_NEW_MATCHES if message.only_new_matches else AUDIENCE_SENTENCES[SendType(message.send_type)]


def timing_sentence(message: Message) -> str:
    if message.is_matched_by_rounds and message.checking == Checking.AT_ONCE:
        return CHECKED_AT_ONCE
    sentences = IN_APP_TIMING_SENTENCES if message.channel == Channel.IN_APP else TIMING_SENTENCES
    return sentences[SendType(message.send_type)]


def review(message: Message, *, at: datetime, problems: list[str], within: timedelta | None = None) -> Review:
    """Describe the effect of setting this message live; `problems` are those already found.

    With `within`, an audience that takes longer to count is estimated.
    """
    found = Review(problems=problems, window=delivery_times(message, at=at), only_new_matches=message.only_new_matches)
    timing = timing_sentence(message)
    if found.window_words and timing == TIMING_SENTENCES[SendType.ONE_OFF]:
        timing = AT_DELIVERY_TIMES
    found.sentences = [audience_sentence(message), timing, found.window]
    if end := end_of_showing(message):
        found.sentences.append(f"It is shown until {end}.")
    if message.sender is None and authoring.NO_SENDER not in problems:
        found.problems.append(authoring.NO_SENDER)
    try:
        assert message.audience is not None  # noqa: S101 - the composer's messages have one
        tree = message.audience.tree
        found.lines = audience_lines(tree)
        found.per_company = message.goes_per_company
        found.sentences.insert(2, ONCE_PER_COMPANY if found.per_company else ONCE)
        found.sentences.append(leads_sentence(tree))
        forecast = (
            matching_forecast.forecast_within(message, at=at, within=within)
            if within
            else matching_forecast.forecast(message, at=at)
        )
    except RuleError as wrong:
        if str(wrong) not in found.problems:
            found.problems.append(str(wrong))
        return found
    add_counts(found, message, forecast)
    found.warnings += [sentence for warning in WARNINGS if (sentence := warning(message, tree, found, at))]
    if unreached := nobody_reason(message, forecast):
        found.problems.append(unreached)
    return found


def leads_sentence(tree: Group) -> str:
    """Return whether leads are included, and through which rules (behaviour 4.17)."""
    found = lead_rules(tree)
    if not found:
        return "Goes to users only, not to leads."
    names = Names([tree])
    parts = [
        f"“{names.sentence(one.rule)}”{f' in segment {one.segment}' if one.segment else ''}"
        for one in dict.fromkeys(found)
    ]
    return f"Leads are included, through {' and '.join(parts)}."


def add_counts(found: Review, message: Message, forecast: Forecast) -> None:
    """Copy the forecast's numbers into the review."""
    found.people, found.copies, found.exact = forecast.people, forecast.copies, forecast.exact
    found.left_out = [(reason_label(reason, message), count) for reason, count in sorted(forecast.left_out.items())]
    found.receiving = forecast.receiving
    if forecast.exact and found.receiving > Workspace.current().confirm_above:
        found.confirm = found.receiving
    if found.per_company:
        found.companies = companies_sentence(forecast)


def companies_sentence(forecast: Forecast) -> str:
    """Return the number of copies of a company message, and of the people who get none as they are in no company."""
    copies = counted(forecast.copies, "message", "messages")
    receiving = counted(forecast.receiving, "person gets", "people get")
    sentence = f"{receiving} {copies}, one for each of their companies that match."
    if none := forecast.left_out.get(Reason.NO_COMPANY):
        sentence += f" {counted(none, 'person', 'people')} in no company {'gets' if none == 1 else 'get'} none."
    return sentence


# Warnings do not block a launch. Each function returns a sentence, or "" if it does not apply.

CLOSED_FOR_LONG = timedelta(days=3)
WarningCheck = Callable[[Message, Group, Review, datetime], str]


def warn_per_company(_message: Message, _tree: Group, found: Review, _at: datetime) -> str:
    return found.companies


def warn_negatives(_message: Message, tree: Group, _found: Review, _at: datetime) -> str:
    return "Two negative rules are joined by “or”: almost everyone matches one of them." * joins_negatives_by_or(tree)


def warn_past_events(message: Message, tree: Group, _found: Review, _at: datetime) -> str:
    """Warn that "has happened" matches everyone for whom it ever happened."""
    if message.send_type != SendType.ONGOING or message.only_new_matches:
        return ""
    asked = [rule.attribute for rule in tree.positive_leaves() if rule.operator is Operator.HAS_HAPPENED]
    if not asked:
        return ""
    names = ", ".join(f"“{name.partition('.')[2]}”" for name in dict.fromkeys(asked))
    return (
        f"This includes everyone for whom {names} ever happened. To leave them out, tick"
        " “Only people who start to match after it goes live”."
    )


def warn_unknown_events(_message: Message, tree: Group, _found: Review, _at: datetime) -> str:
    """Warn of events that have never arrived, which may be misspelled."""
    catalogue = CustomAttribute.objects.catalogue()
    found = (find_attribute(leaf.attribute, catalogue=catalogue) for leaf in tree.leaves())
    asked = list(dict.fromkeys(attribute.key for attribute in found if attribute.about is About.EVENT))
    known = set(EventName.objects.filter(name__in=asked).values_list("name", flat=True))
    names = ", ".join(f"“{name}”" for name in asked if name not in known)
    return f"No event has arrived yet under the name {names}. Check the spelling." if names else ""


def warn_everyone(_message: Message, tree: Group, _found: Review, _at: datetime) -> str:
    return "" if tree.rules else "No filters: everyone."


def large_sentence(found: Review) -> str:
    return f"This goes to {'' if found.exact else 'about '}{found.receiving:,} people."


def warn_large(_message: Message, _tree: Group, found: Review, _at: datetime) -> str:
    return large_sentence(found) if found.receiving > Workspace.current().confirm_above else ""


def warn_no_address(message: Message, _tree: Group, _found: Review, _at: datetime) -> str:
    """Warn if a branded email lacks the postal address that bulk email is expected to show."""
    lacking = message.layout.get("style") == Style.BRANDED and not message.layout["address"].strip()
    return "The workspace has no postal address, so the footer shows none." if lacking else ""


def warn_gaps(message: Message, _tree: Group, _found: Review, _at: datetime) -> str:
    """Warn of variables without a default."""
    version = message.version
    try:
        texts = (version.subject, version.body, version.link) if version else ()
        bare = frozenset().union(*map(content.variables_without_default, texts))
    except content.ContentError:
        return ""
    names = sorted(name for name in bare if name != content.UNSUBSCRIBE_URL)
    if not names:
        return ""
    return f"No default for {', '.join(names)}: customers without a value see a gap."


def warn_push_only_logged(message: Message, _tree: Group, _found: Review, _at: datetime) -> str:
    """Warn if no push provider is configured."""
    if message.channel != Channel.PUSH or settings.FCM_CREDENTIALS:
        return ""
    return (
        "Mobile push is not set up, so push messages are only written to the server’s log. To send them, install "
        "requirements-push.lock and set FCM_CREDENTIALS (docs/push.md)."
    )


def warn_domain(message: Message, _tree: Group, _found: Review, _at: datetime) -> str:
    """Warn of what the sender's domain lacks, and of checks that could not be made."""
    domain = authoring.domain_of_sender(message)
    return domain.launch_warning if domain else ""


def warn_opens_late(message: Message, _tree: Group, _found: Review, at: datetime) -> str:
    """Warn if the delivery times stay closed for days."""
    workspace = Workspace.current()
    window = message.open_window(workspace.quiet_hours)
    opening = delivery_window.next_opening(window, at, workspace.tz)
    if window == delivery_window.NEVER or opening - at <= CLOSED_FOR_LONG:
        return ""
    return f"The delivery times do not open before {timezone.localtime(opening):%A %-d %B at %H:%M}."


def warn_quiet_hours(message: Message, _tree: Group, _found: Review, _at: datetime) -> str:
    """Warn of a message that does not keep the workspace's quiet hours."""
    quiet = quiet_hours(Workspace.current())
    is_urgent = message.during_quiet_hours and message.channel != Channel.IN_APP
    return f"It also goes out during quiet hours, {quiet}." if quiet and is_urgent else ""


WARNINGS: tuple[WarningCheck, ...] = (
    warn_per_company,
    warn_negatives,
    warn_past_events,
    warn_unknown_events,
    warn_everyone,
    warn_large,
    warn_no_address,
    warn_gaps,
    warn_push_only_logged,
    warn_domain,
    warn_opens_late,
    warn_quiet_hours,
)


def delivery_times(message: Message, *, at: datetime) -> str:
    """Return the delivery times and their next opening in words."""
    try:
        window = message.parsed_window
    except delivery_window.WindowError as wrong:
        return str(wrong)
    workspace = Workspace.current()
    open_window = message.open_window(workspace.quiet_hours)
    quiet = f" outside quiet hours ({quiet_hours(workspace)})" if open_window != window else ""
    if not open_window.spans:
        return ANY_TIME
    hours = within_sentence(delivery_window.describe_window(window, "")) if window.spans else "at any time"
    if open_window == delivery_window.NEVER:
        return f"Delivered {hours}{quiet}: never."
    if message.window_zone == WindowZone.CUSTOMER:
        return f"Delivered {hours}{quiet}, in each customer’s own time zone."
    opening = delivery_window.next_opening(open_window, at, workspace.tz)
    following = "It is open now" if opening <= at else f"It next opens {timezone.localtime(opening):%A %H:%M}"
    return f"Delivered {hours}{quiet}, {workspace.zone} time. {following}."


def quiet_hours(workspace: Workspace) -> str:
    """Return the quiet hours in words, such as "22:00 to 08:00"; "" if there are none."""
    quiet = workspace.quiet_hours
    return delivery_window.describe_quiet_hours(quiet, "") if quiet else ""


def within_sentence(described: str) -> str:
    """Return a description of a window for use inside a sentence; names of days keep their capitals."""
    return described.replace("Every day", "every day", 1)

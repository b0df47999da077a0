"""What will happen, in plain words and numbers, before it happens."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from audiences.models import Workspace
from audiences.rules import Group, RuleError
from delivery.matching import forecast as matching_forecast
from delivery.matching.forecast import Forecast
from delivery.models import Reason
from messaging import content, delivery_window
from messaging.models import Channel, Message, SendType, Style, WindowZone
from outbound.console.wording import Line, audience_lines, counted, joins_negatives_by_or

WHO: dict[SendType, str] = {
    SendType.ONGOING: "Sends to everyone who matches the filters now, and to anyone who matches them in the future.",
    SendType.ONE_OFF: "Sends only to the people who match your audience filters now, and to nobody who matches later.",
}
HOW: dict[tuple[SendType, Channel], str] = {
    (SendType.ONGOING, Channel.EMAIL): "The filters are checked every hour, and when a customer visits.",
    (SendType.ONGOING, Channel.PUSH): "The filters are checked every hour, and when a customer visits.",
    (SendType.ONGOING, Channel.IN_APP): "It shows when a customer logs in or visits, and matches the filters then.",
    (SendType.ONE_OFF, Channel.EMAIL): "It goes out as soon as you set it live.",
    (SendType.ONE_OFF, Channel.PUSH): "It goes out as soon as you set it live.",
    (SendType.ONE_OFF, Channel.IN_APP): "Each of them sees it at their next visit.",
}
ONCE = "Each customer gets it once."
ONCE_PER_COMPANY = (
    "The text uses a company variable, so each customer gets it once for each company they are a member of."
)


@dataclass(slots=True)
class Review:
    """Everything step 3 and the summary show."""

    sentences: list[str] = field(default_factory=list)
    # None where the rules cannot be read yet.
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
    # How many the sender types to confirm; 0 where nobody needs to.
    confirm: int = 0
    window: str = ""
    companies: str = ""

    @property
    def headline(self) -> str:
        """The count in one line: "812 match now, 790 will receive it"."""
        if self.people is None:
            return "No count yet"
        if not self.people:
            return "Nobody matches now"
        verb = "matches" if self.people == 1 else "match"
        about = "" if self.exact else "about "
        if self.receiving == self.people:
            tail = "all will receive it" if self.people > 1 else "and will receive it"
        else:
            tail = f"{about}{self.receiving:,} will receive it"
        return f"{about}{self.people:,} {verb} now, {tail}".capitalize()


def review(message: Message, *, at: datetime, problems: list[str], within: timedelta | None = None) -> Review:
    """Say what setting this message live would do; `problems` are those known already.

    With `within`, an audience that takes longer to count is estimated.
    """
    kind, channel = SendType(message.send_type), Channel(message.channel)
    found = Review(problems=problems, window=when(message, at=at))
    found.sentences = [WHO[kind], HOW[kind, channel], found.window]
    if message.sender is None and "Choose who the message is from." not in problems:
        found.problems.append("Choose who the message is from.")
    try:
        assert message.audience is not None  # noqa: S101 - the composer's messages have one
        tree = message.audience.tree
        found.lines = audience_lines(tree)
        found.per_company = message.goes_per_company
        found.sentences.insert(2, ONCE_PER_COMPANY if found.per_company else ONCE)
        forecast = (
            matching_forecast.forecast_soon(message, at=at, within=within)
            if within
            else matching_forecast.forecast(message, at=at)
        )
    except RuleError as wrong:
        if str(wrong) not in found.problems:
            found.problems.append(str(wrong))
        return found
    count_in(found, forecast)
    found.warnings += [sentence for warning in WARNINGS if (sentence := warning(message, tree, found, at))]
    if not forecast.people and kind == SendType.ONE_OFF:
        found.problems.append("Nobody matches right now, so this one-off would reach nobody.")
    return found


def count_in(found: Review, forecast: Forecast) -> None:
    """Take over the numbers."""
    found.people, found.copies, found.exact = forecast.people, forecast.copies, forecast.exact
    found.left_out = [(words(reason), count) for reason, count in sorted(forecast.left_out.items())]
    found.receiving = forecast.people - sum(forecast.left_out.values())
    if forecast.exact and found.receiving > Workspace.current().confirm_above:
        found.confirm = found.receiving
    if found.per_company:
        found.companies = (
            f"{counted(forecast.people, 'person', 'people')}, {counted(forecast.copies, 'message', 'messages')}, "
            f"{counted(forecast.left_out.get(Reason.NO_COMPANY, 0), 'person', 'people')} in no company get none."
        )


# What does not block, a sentence each where it is so.

SOON = timedelta(days=3)
Warns = Callable[[Message, Group, Review, datetime], str]


def per_company(_message: Message, _tree: Group, found: Review, _at: datetime) -> str:
    """It goes once for each company."""
    return found.companies


def negatives(_message: Message, tree: Group, _found: Review, _at: datetime) -> str:
    """Two negative rules are joined by or."""
    return "Two negative rules are joined by “or”: nearly everybody matches one of them." * joins_negatives_by_or(tree)


def everyone(_message: Message, tree: Group, _found: Review, _at: datetime) -> str:
    """There are no rules."""
    return "" if tree.rules else "No filters: everyone."


def large(_message: Message, _tree: Group, found: Review, _at: datetime) -> str:
    """It goes to very many."""
    many = found.receiving > Workspace.current().confirm_above
    return f"This goes to {'' if found.exact else 'about '}{found.receiving:,} people." if many else ""


def no_address(message: Message, _tree: Group, _found: Review, _at: datetime) -> str:
    """A branded email lacks the postal address that mail to many is expected to show."""
    lacking = message.dress.get("style") == Style.BRANDED and not message.dress["address"].strip()
    return "The workspace has no postal address, so the footer shows none." if lacking else ""


def gaps(message: Message, _tree: Group, _found: Review, _at: datetime) -> str:
    """Variables that leave a gap."""
    version = message.version
    try:
        texts = (version.subject, version.body, version.link) if version else ()
        bare = frozenset().union(*map(content.without_default, texts))
    except content.ContentError:
        return ""
    names = sorted(name for name in bare if name != content.UNSUBSCRIBE_URL)
    if not names:
        return ""
    return f"No default for {', '.join(names)}: where it is unknown, nothing stands there."


def only_logged(message: Message, _tree: Group, _found: Review, _at: datetime) -> str:
    """Pushes reach nobody here."""
    if message.channel != Channel.PUSH or settings.FCM_CREDENTIALS:
        return ""
    return (
        "Mobile push is not set up, so pushes are only written to the server’s log. To send them, install "
        "requirements-push.lock and set FCM_CREDENTIALS (docs/push.md)."
    )


def opens_late(message: Message, _tree: Group, _found: Review, at: datetime) -> str:
    """The window stays closed for days."""
    window = message.parsed_window
    opening = delivery_window.next_opening(window, at, Workspace.current().tz)
    if opening - at <= SOON:
        return ""
    return f"The delivery times do not open before {timezone.localtime(opening):%A %-d %B at %H:%M}."


WARNINGS: tuple[Warns, ...] = (per_company, negatives, everyone, large, no_address, gaps, only_logged, opens_late)


def words(reason: Reason) -> str:
    """A reason as it reads in a list of people."""
    return str(reason.label)


def when(message: Message, *, at: datetime) -> str:
    """When it may be delivered, and when that is next."""
    try:
        window = message.parsed_window
    except delivery_window.WindowError as wrong:
        return str(wrong)
    if not window.spans:
        return "It can be delivered at any time."
    workspace = Workspace.current()
    if message.window_zone == WindowZone.CUSTOMER:
        return f"Delivered {inside(delivery_window.describe(window, ''))}, by each customer’s own clock."
    opening = delivery_window.next_opening(window, at, workspace.tz)
    following = "It is open now" if opening <= at else f"It next opens {timezone.localtime(opening):%A %H:%M}"
    return f"Delivered {inside(delivery_window.describe(window, workspace.zone))}. {following}."


def inside(described: str) -> str:
    """A window in words, as it reads inside a sentence: the names of days keep their capitals."""
    return described.replace("Every day", "every day", 1)

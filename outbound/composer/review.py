"""What will happen, in plain words and numbers, before it happens."""

from dataclasses import dataclass, field
from datetime import datetime

from django.utils import timezone

from audiences.models import Workspace
from audiences.rules import RuleError
from delivery import matching
from delivery.models import Reason
from messaging import windows
from messaging.models import Channel, Message, SendType, WindowZone
from outbound.wording import Line, audience_lines, counted, joins_negatives_by_or

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

    @property
    def headline(self) -> str:
        """The count in one line: "812 match now, 790 will receive it"."""
        if self.people is None:
            return "No count yet"
        if not self.people:
            return "Nobody matches now"
        verb = "matches" if self.people == 1 else "match"
        if self.receiving == self.people:
            tail = "all will receive it" if self.people > 1 else "and will receive it"
        else:
            tail = f"{self.receiving:,} will receive it"
        return f"{self.people:,} {verb} now, {tail}"


def review(message: Message, *, at: datetime, problems: list[str]) -> Review:
    """Say what setting this message live would do; `problems` are those known already."""
    kind, channel = SendType(message.send_type), Channel(message.channel)
    found = Review(problems=problems)
    found.sentences = [WHO[kind], HOW[kind, channel], when(message, at=at)]
    if message.sender is None and "Choose who the message is from." not in problems:
        found.problems.append("Choose who the message is from.")
    try:
        assert message.audience is not None  # noqa: S101 - the composer's messages have one
        tree = message.audience.tree
        found.lines = audience_lines(tree)
        if joins_negatives_by_or(tree):
            found.warnings.append("Two negative rules are joined by “or”: nearly everybody matches one of them.")
        found.per_company = message.goes_per_company
        found.sentences.insert(2, ONCE_PER_COMPANY if found.per_company else ONCE)
        forecast = matching.forecast(message, at=at)
    except RuleError as wrong:
        if str(wrong) not in found.problems:
            found.problems.append(str(wrong))
        return found
    found.people, found.copies = forecast.people, forecast.copies
    found.left_out = [(words(reason), count) for reason, count in sorted(forecast.left_out.items())]
    found.receiving = forecast.people - sum(forecast.left_out.values())
    if found.per_company:
        found.warnings.append(
            f"{counted(forecast.people, 'person', 'people')}, {counted(forecast.copies, 'message', 'messages')}, "
            f"{counted(forecast.left_out.get(Reason.NO_COMPANY, 0), 'person', 'people')} in no company get none."
        )
    if not forecast.people and kind == SendType.ONE_OFF:
        found.problems.append("Nobody matches right now, so this one-off would reach nobody.")
    return found


def words(reason: Reason) -> str:
    """A reason as it reads in a list of people."""
    return str(reason.label)


def when(message: Message, *, at: datetime) -> str:
    """When it may be delivered, and when that is next."""
    try:
        window = message.parsed_window
    except windows.WindowError as wrong:
        return str(wrong)
    if not window.spans:
        return "It can be delivered at any time."
    workspace = Workspace.current()
    if message.window_zone == WindowZone.CUSTOMER:
        return f"Delivered {inside(windows.describe(window, ''))}, by each customer’s own clock."
    opening = windows.next_opening(window, at, workspace.tz)
    following = "It is open now" if opening <= at else f"It next opens {timezone.localtime(opening):%A %H:%M}"
    return f"Delivered {inside(windows.describe(window, workspace.zone))}. {following}."


def inside(described: str) -> str:
    """A window in words, as it reads inside a sentence: the names of days keep their capitals."""
    return described.replace("Every day", "every day", 1)

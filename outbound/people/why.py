"""Why? One customer and one message: each rule with the value it saw, and everything else that decides."""

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.timesince import timesince, timeuntil

from audiences.rules import Group, Kind, Rule
from delivery.eligibility import explain
from delivery.eligibility.explain import Case, EvaluatedNode, Explanation, Verdict
from delivery.models import Reason
from messaging import delivery_window
from messaging.models import Channel, Message, SendType, State
from outbound.console.admin import ConsoleAdmin
from outbound.console.formatting import chip
from outbound.console.lookups import name_of
from outbound.console.wording import STATE_TONES, Names, counted
from outbound.messages.records import status_chip

MOST_MESSAGES = 300
PAGES = (("<path:object_id>/why/", "why"),)
# The states in the order a reader looks for a message in.
ORDER = (State.LIVE, State.SAMPLED, State.PAUSED, State.SCHEDULED, State.DRAFT, State.SENT, State.STOPPED)
NOT_LIVE: dict[str, str] = {
    State.DRAFT: "This message is a draft: it reaches nobody until it is set live.",
    State.SCHEDULED: "This message is scheduled: who matches when it goes live gets it.",
    State.PAUSED: "This message is paused: nothing goes out until somebody resumes it.",
    State.STOPPED: "This message was stopped, so it reaches nobody any more.",
    State.SENT: "This one-off was sent to the people who matched when it was set live, and they were not among them.",
}


class WhyPages(ConsoleAdmin):
    """The page Why? of a customer."""

    def why(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Pick a message, and see."""
        customer = self.found(request, object_id, to="view")
        if not request.user.has_perm("messaging.view_message"):
            raise PermissionDenied
        message = chosen(request.GET.get("message", ""))
        explained = explain.explain(message, customer, at=timezone.now()) if message else None
        return self.page(
            request,
            "outbound/why.html",
            title=f"Why? {customer}",
            original=customer,
            choices=choices(message),
            message=message,
            state=chip(message.get_state_display(), STATE_TONES[State(message.state)]) if message else "",
            cases=as_cards(explained) if explained else [],
            facts=facts(explained) if explained else [],
            explained=explained,
        )


def chosen(given: str) -> Message | None:
    """The message asked about; 404 where there is none."""
    if not given:
        return None
    rows = Message.objects.select_related("audience", "version", "to_customer")
    found = rows.filter(pk=given).first() if given.isdecimal() and len(given) < 19 else None
    if found is None:
        raise Http404(f"There is no message {given}.")
    return found


def choices(message: Message | None) -> list[tuple[str, list[Message]]]:
    """The messages one can ask about, the live ones first."""
    rows = list(Message.objects.to_audiences().order_by("-pk")[:MOST_MESSAGES])
    if message and message not in rows:
        rows.append(message)
    return [(state.label, mine) for state in ORDER if (mine := [row for row in rows if row.state == state])]


# What becomes of it


def on(moment: datetime | None) -> str:
    """A moment as staff read it, on the workspace's clock."""
    return f"{timezone.localtime(moment):%-d %B %Y at %H:%M}" if moment else "a time nobody wrote down"


def unreachable(explained: Explanation) -> str:
    """Why they cannot be reached, in one sentence."""
    reasons = ", ".join(str(reason.label)[:1].lower() + str(reason.label)[1:] for reason in explained.unreachable)
    return f"They match, and cannot be reached: {reasons}."


def rules_red(explained: Explanation, case: Case) -> str:
    """How many rules keep them out."""
    if not explained.is_user and not explained.asks_role:
        return "They are a lead. Without a rule on the role, a message goes to users only."
    leaves = [judged for pair in case.pairs[:1] for judged in pair.tree.leaves()]
    red = sum(not judged.holds for judged in leaves)
    if not red or explained.customer.archived_at:
        return "They do not match the filters now."
    if len(leaves) == 1:
        return "They do not match the filters now: the one rule does not hold."
    return f"They do not match the filters now: {red} of {len(leaves)} rules {'does' if red == 1 else 'do'} not hold."


def waiting(explained: Explanation, case: Case) -> str:
    """What it waits for."""
    record = case.record
    assert record is not None  # noqa: S101 - waiting is a status of a record
    until = f" It is due {on(record.due_at)}." if record.due_at and record.due_at > explained.at else ""
    return f"It matched {on(record.matched_at)} and waits: {lower(record.why)}.{until}"


def left_company(explained: Explanation, case: Case) -> str:
    """That they are not in the company it is about, and what becomes of the copy."""
    company = case.company
    is_archived = company is not None and company.archived_at is not None
    because = f"{company} is archived" if is_archived else f"They are no longer in {company}"
    if explained.message.send_type == SendType.ONE_OFF:
        return f"{because}, so the message about it is skipped when its turn comes."
    again = "if it is brought back" if is_archived else "if they return"
    return f"{because}, so the message about it is not sent. It is sent after all {again} and they match."


def lower(words: str) -> str:
    """Words as they read inside a sentence."""
    return words[:1].lower() + words[1:] if words else "queued"


def soon(explained: Explanation) -> str:
    """They match: when that is noticed."""
    when = explained.next_round
    following = "at any minute" if when is None or when <= explained.at else f"about {timezone.localtime(when):%H:%M}"
    closed = explained.opening > explained.at
    tail = f" It is then delivered when the window opens, {opening(explained)}." if closed else ""
    return f"They match and have not got it yet. It is checked {following}, or when they visit before that.{tail}"


Words = Callable[[Explanation, Case], str]
VERDICTS: dict[Verdict, tuple[str, Words]] = {
    Verdict.SOMEBODY_ELSE: ("plain", lambda e, c: f"This message is to {e.message.to_customer} alone."),
    Verdict.GOT_IT: ("good", lambda e, c: f"They got it on {on(c.record.sent_at if c.record else None)}."),
    Verdict.ON_ITS_WAY: ("info", lambda e, c: "It is being handed over right now."),
    Verdict.UNCERTAIN: (
        "warning",
        lambda e, c: "It may have reached them or not: nobody can know. It is not repeated.",
    ),
    Verdict.WAITING: ("info", waiting),
    Verdict.FAILED: ("bad", lambda e, c: f"It could not be sent: {lower(c.record.why if c.record else '')}."),
    Verdict.SKIPPED: ("warning", lambda e, c: f"They were left out: {lower(c.record.why if c.record else '')}."),
    Verdict.STOPPED: ("plain", lambda e, c: "It was waiting for them when the message was stopped."),
    Verdict.NOT_LIVE: ("plain", lambda e, c: NOT_LIVE[e.message.state]),
    Verdict.NOT_AMONG_THEM: (
        "plain",
        lambda e, c: (
            f"A one-off goes only to the people who matched when it was set live, {on(e.message.went_live_at)}. "
            "They were not among them."
        ),
    ),
    Verdict.BROKEN: ("bad", lambda e, c: f"The filters no longer make sense, so nobody matches: {e.trouble}"),
    Verdict.NO_MATCH: ("bad", rules_red),
    Verdict.NO_COMPANY: (
        "warning",
        lambda e, c: "The text uses a company variable, so it goes once for each company. They are in none.",
    ),
    Verdict.LEFT_COMPANY: ("warning", left_company),
    Verdict.UNREACHABLE: ("bad", lambda e, c: unreachable(e)),
    Verdict.CAPPED: (
        "warning",
        lambda e, c: f"They match, and have had enough messages for now. They can get one more {on(e.capped_until)}.",
    ),
    Verdict.NEXT_CHECK: ("good", lambda e, c: soon(e)),
    Verdict.NEXT_VISIT: (
        "good",
        lambda e, c: (
            "They match. It shows at their next visit"
            + (f" once the window opens, {opening(e)}." if e.opening > e.at else ".")
        ),
    ),
}


def as_cards(explained: Explanation) -> list[dict[str, Any]]:
    """The copies there are or could be; what their rules name is read once for all of them."""
    nodes = (pair.tree.node for case in explained.cases for pair in case.pairs)
    # They were all judged by the one tree of the message.
    names = Names([node for node in nodes if isinstance(node, Group)][:1])
    owners = {user.pk: name_of(user) for user in User.objects.filter(is_staff=True)}
    return [as_card(explained, case, names=names, owners=owners) for case in explained.cases]


def as_card(explained: Explanation, case: Case, *, names: Names, owners: dict[int, str]) -> dict[str, Any]:
    """One copy there is or could be, as the page shows it."""
    tone, words = VERDICTS[case.verdict]
    return {
        "company": case.company,
        "tone": tone,
        "says": words(explained, case),
        "record": case.record,
        "chip": status_chip(case.record) if case.record else "",
        "pairs": [
            {
                "company": pair.company,
                "named": len(case.pairs) > 1,
                "matches": pair.matches,
                "lines": list(lines(pair.tree, names=names, owners=owners, depth=0)),
            }
            for pair in case.pairs
        ],
        "users_only": explained.message.audience_id and not explained.asks_role,
    }


# Rules


def lines(judged: EvaluatedNode, *, names: Names, owners: dict[int, str], depth: int) -> Iterator[dict[str, Any]]:
    """The lines of a group: what each asks, whether it holds, and what it saw."""
    assert isinstance(judged.node, Group)  # noqa: S101 - only groups have lines
    word = "and" if judged.node.match == "all" else "or"
    for number, inner in enumerate(judged.inner):
        line = {"depth": depth, "joint": word if number else "", "holds": inner.holds, "saw": ""}
        if isinstance(inner.node, Rule):
            kind = names.kind_of(inner.node)
            yield {**line, "text": names.sentence(inner.node), "saw": saw(kind, inner.value, owners)}
            continue
        group = inner.node
        if group.copied_from:
            text = f"{'Not in' if group.negated else 'In'} segment {group.copied_from}"
        else:
            text = "All of:" if group.match == "all" else "Any of:"
        yield {**line, "text": text}
        yield from lines(inner, names=names, owners=owners, depth=depth + 1)


BY_KIND: dict[Kind, tuple[str, str]] = {
    Kind.TAG: ("has the tag", "does not have the tag"),
    Kind.SEGMENT: ("in the segment", "not in the segment"),
    Kind.MESSAGE: ("yes", "no"),
    Kind.BOOLEAN: ("yes", "no"),
}


def saw(kind: Kind | None, value: Any, owners: dict[int, str]) -> str:
    """The value a rule saw, in words."""
    if value is None or value == "":
        return "unknown"
    if kind in BY_KIND:
        return BY_KIND[kind][0 if value else 1]
    if kind is Kind.EVENT:
        return f"happened {counted(value, 'time', 'times')}" if value else "never happened"
    if kind is Kind.TEAMMATE:
        return owners.get(value, "a teammate who is gone")
    if isinstance(value, datetime):
        ago = f"{timesince(value, depth=1)} ago" if value <= timezone.now() else f"in {timeuntil(value, depth=1)}"
        return f"{timezone.localtime(value):%-d %b %Y, %H:%M} ({ago})"
    if isinstance(value, int | float | Decimal):
        return f"{value:,}" if not isinstance(value, Decimal) else f"{value.normalize():,f}"
    return f"“{value}”"


# What else decides


def opening(explained: Explanation) -> str:
    """When the window opens next, by the clock it goes by."""
    return f"{explained.opening.astimezone(explained.zone):%A %-d %B at %H:%M}, {explained.zone.key} time"


def facts(explained: Explanation) -> list[dict[str, Any]]:
    """Everything besides the rules: what stands in the way is red, what does not is green."""
    message = explained.message
    live = message.state in (State.LIVE, State.SAMPLED)
    return [
        {"label": "Message", "holds": live, "text": "Live" if live else message.get_state_display()},
        {
            "label": "Reachable",
            "holds": not explained.unreachable,
            "text": ". ".join(str(Reason(reason).label) for reason in explained.unreachable) or "Yes",
        },
        window(explained),
        *([cap(explained)] if not message.to_customer_id else []),
        {"label": "Checked", "holds": None, "text": checked(explained)},
    ]


def window(explained: Explanation) -> dict[str, Any]:
    """When it may be delivered to them."""
    if not explained.window.spans:
        return {"label": "Delivery times", "holds": True, "text": "At any time"}
    words = delivery_window.describe(explained.window, explained.zone.key)
    is_open = explained.opening <= explained.at
    tail = "Open now." if is_open else f"Opens {opening(explained)}."
    return {"label": "Delivery times", "holds": is_open, "text": f"{words}. {tail}"}


def cap(explained: Explanation) -> dict[str, Any]:
    """Whether they have had enough for now."""
    until = explained.capped_until
    text = f"They have had enough messages until {on(until)}." if until else "They can get one more message now"
    return {"label": "Enough messages", "holds": until is None, "text": text}


def checked(explained: Explanation) -> str:
    """When it is next looked at whether they match."""
    message = explained.message
    if message.to_customer_id:
        return "Never: it is to one person."
    if message.send_type == SendType.ONE_OFF:
        return "Once, when it is set live."
    if message.state != State.LIVE:
        return "Not while it is not live."
    if message.channel == Channel.IN_APP:
        return "Each time they visit."
    if explained.next_round is None:
        return "When they visit. The hourly check is switched off in the schedule."
    due = explained.next_round
    when = "at any minute" if due <= explained.at else f"about {timezone.localtime(due):%H:%M}"
    return f"Every hour, next {when}, and each time they visit."

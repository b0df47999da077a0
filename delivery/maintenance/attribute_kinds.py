"""The kind of a custom attribute changed where very many have a value: asked for by a click, done by a worker.

It is one transaction, so no rule ever sees half of it. A worker that dies leaves the change as it was asked for, and
the minute sweep begins it again; one that comes second finds it taken, or done.
"""

from datetime import datetime

from django.db import IntegrityError, connection, transaction
from django.db.models import BooleanField, Func, QuerySet, Value
from django.db.models.fields.json import JSONField
from django.db.models.functions import Cast

from audiences import attributes
from audiences.attributes import COMPANY_CUSTOM, CUSTOM, Catalogue
from audiences.intake.attributes import kind_conversion
from audiences.locks import Lock
from audiences.models import Audience, CustomAttribute, KindChange
from audiences.models.catalogue import Scope
from audiences.rules import Kind, RuleError, parse
from messaging.models import Message, State

# From so many values on a worker converts them; fewer, the request does.
MOST_AT_ONCE = 20_000
PREFIX: dict[Scope, str] = {Scope.CUSTOMER: CUSTOM, Scope.COMPANY: COMPANY_CUSTOM}
# A message in one of these states goes by its rules, now or soon.
GOES_BY_ITS_RULES = (State.SCHEDULED, State.LIVE, State.SAMPLED, State.PAUSED)


class UnderWay(Exception):
    """This attribute is being changed already."""


def ask_for(attribute: CustomAttribute, *, to: Kind, values: int, lose_at_most: int, at: datetime) -> KindChange:
    """Have a worker change the kind; UnderWay where one does."""
    try:
        with transaction.atomic():
            return KindChange.objects.create(
                attribute=attribute, to=to, values=values, lose_at_most=lose_at_most, asked_at=at
            )
    except IntegrityError as taken:
        raise UnderWay from taken


def under_way() -> list[int]:
    """The changes a worker is to carry out."""
    return list(KindChange.objects.filter(ended_at=None).order_by("pk").values_list("pk", flat=True))


def carry_out(key: int, *, at: datetime) -> bool:
    """Do what was asked for, or write down why not; False where another worker does, or did."""
    with transaction.atomic():
        change = lock_kind_change(key)
        if change is None:
            return False
        attribute, was = change.attribute, Kind(change.attribute.kind)
        change.ended_at = at
        hold_rules_still()
        if blocked(attribute, to=Kind(change.to)):
            change.trouble = (
                "A message that goes by its rules, or a segment, asks about it in a way that would not fit."
            )
        else:
            try:
                done = kind_conversion.convert_attribute(
                    attribute, to=Kind(change.to), lose_at_most=change.lose_at_most
                )
            except kind_conversion.TooMuchLost as too_much:
                change.trouble = (
                    f"{too_much.lost:,} values would have become unknown by then, and the page said"
                    f" {change.lose_at_most:,}."
                )
            else:
                change.kept, change.lost = done.kept, done.lost
        change.save()
    if not change.trouble:
        kind_conversion.convert_late_writes(attribute, was=was)
    return True


def lock_kind_change(key: int) -> KindChange | None:
    """Take a change in hand until the transaction ends; None where it is done, or in other hands."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [Lock.KIND_CHANGE, key % 2**31])
        if not cursor.fetchone()[0]:
            return None
    return KindChange.objects.select_related("attribute").filter(pk=key, ended_at=None).first()


def hold_rules_still() -> None:
    """Have no rules saved until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [Lock.SEGMENTS])


def asking_about(attribute: CustomAttribute) -> QuerySet[Audience]:
    """The audiences and segments with a rule about it."""
    named = Func(
        "rules",
        Value("$.** ? (@.attribute == $name)"),
        Cast(Value({"name": PREFIX[Scope(attribute.scope)] + attribute.name}, JSONField()), JSONField()),
        function="jsonb_path_exists",
        template="%(function)s(%(expressions)s)",
        output_field=BooleanField(),
    )
    return Audience.objects.filter(named)


def blocked(attribute: CustomAttribute, *, to: Kind) -> bool:
    """Whether a message that goes by its rules, or a segment, would break."""
    kinds = with_kind(CustomAttribute.objects.catalogue(), attribute, to=to)
    found = asking_about(attribute)
    live = Message.objects.filter(audience__in=found, state__in=GOES_BY_ITS_RULES).values("audience")
    return any(broken(one, kinds) for one in found if one.name) or any(
        broken(one, kinds) for one in Audience.objects.filter(pk__in=live)
    )


def with_kind(catalogue: Catalogue, attribute: CustomAttribute, *, to: Kind) -> Catalogue:
    """The catalogue as it would be."""
    customer, company = dict(catalogue.customer), dict(catalogue.company)
    (customer if attribute.scope == Scope.CUSTOMER else company)[attribute.name] = to
    return Catalogue(customer=customer, company=company)


def broken(audience: Audience, catalogue: Catalogue) -> str:
    """Which rule would make no sense, in a sentence; empty where all would."""

    def kind_of(name: str) -> tuple[Kind, str]:
        found = attributes.find_attribute(name, catalogue=catalogue)
        return found.kind, found.label

    try:
        parse(audience.rules, kind_of=kind_of)
    except RuleError as wrong:
        return str(wrong)
    return ""

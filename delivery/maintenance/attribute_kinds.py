"""Change of a custom attribute's kind: requested by an Admin, carried out by a worker if there are many values.

It is one transaction, so rules never see a part of it. If the worker dies, the request stays and the minute sweep
starts it again; a second worker finds it claimed or done.
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

# With more values than this, a worker converts them instead of the request.
MAX_VALUES_PER_REQUEST = 20_000
PREFIX: dict[Scope, str] = {Scope.CUSTOMER: CUSTOM, Scope.COMPANY: COMPANY_CUSTOM}
# A message in one of these states uses its rules, now or soon.
STATES_USING_RULES = (State.SCHEDULED, State.LIVE, State.SAMPLED, State.PAUSED)


class ChangeInProgress(Exception):
    """This attribute is being changed already."""


def request_change(attribute: CustomAttribute, *, to: Kind, values: int, lose_at_most: int, at: datetime) -> KindChange:
    """Request the change; raise ChangeInProgress if another one is in progress."""
    try:
        with transaction.atomic():
            return KindChange.objects.create(
                attribute=attribute, to=to, values=values, lose_at_most=lose_at_most, asked_at=at
            )
    except IntegrityError as taken:
        raise ChangeInProgress from taken


def pending_changes() -> list[int]:
    """Return the keys of the changes that a worker must carry out."""
    return list(KindChange.objects.filter(ended_at=None).order_by("pk").values_list("pk", flat=True))


def apply_change(key: int, *, at: datetime) -> bool:
    """Carry out a change or store why it is impossible; return False if another worker does or did it."""
    with transaction.atomic():
        change = lock_kind_change(key)
        if change is None:
            return False
        attribute, was = change.attribute, Kind(change.attribute.kind)
        change.ended_at = at
        lock_rules()
        if is_blocked(attribute, to=Kind(change.to)):
            change.problem = (
                "A rule of a segment, or of a scheduled, live or paused message, is invalid for the new kind."
            )
        else:
            try:
                done = kind_conversion.convert_attribute(
                    attribute, to=Kind(change.to), lose_at_most=change.lose_at_most
                )
            except kind_conversion.TooMuchLost as too_much:
                change.problem = (
                    f"Values that would be lost: {too_much.lost:,}, more than the {change.lose_at_most:,} that were"
                    " confirmed."
                )
            else:
                change.kept, change.lost = done.kept, done.lost
        change.save()
    if not change.problem:
        kind_conversion.convert_late_writes(attribute, was=was)
    return True


def lock_kind_change(key: int) -> KindChange | None:
    """Lock a change until the transaction ends; return None if it is done or another worker holds it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [Lock.KIND_CHANGE, key % 2**31])
        if not cursor.fetchone()[0]:
            return None
    return KindChange.objects.select_related("attribute").filter(pk=key, ended_at=None).first()


def lock_rules() -> None:
    """Block saving of rules until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [Lock.SEGMENTS])


def audiences_using(attribute: CustomAttribute) -> QuerySet[Audience]:
    """Return the audiences and segments with a rule on this attribute."""
    named = Func(
        "rules",
        Value("$.** ? (@.attribute == $name)"),
        Cast(Value({"name": PREFIX[Scope(attribute.scope)] + attribute.name}, JSONField()), JSONField()),
        function="jsonb_path_exists",
        template="%(function)s(%(expressions)s)",
        output_field=BooleanField(),
    )
    return Audience.objects.filter(named)


def is_blocked(attribute: CustomAttribute, *, to: Kind) -> bool:
    """Return whether the new kind would break a segment, or a message that uses its rules."""
    kinds = catalogue_with_kind(CustomAttribute.objects.catalogue(), attribute, to=to)
    found = audiences_using(attribute)
    live = Message.objects.filter(audience__in=found, state__in=STATES_USING_RULES).values("audience")
    return any(rule_error(one, kinds) for one in found if one.name) or any(
        rule_error(one, kinds) for one in Audience.objects.filter(pk__in=live)
    )


def catalogue_with_kind(catalogue: Catalogue, attribute: CustomAttribute, *, to: Kind) -> Catalogue:
    """Return a copy of the catalogue with the new kind."""
    customer, company = dict(catalogue.customer), dict(catalogue.company)
    (customer if attribute.scope == Scope.CUSTOMER else company)[attribute.name] = to
    return Catalogue(customer=customer, company=company, labels=catalogue.labels)


def rule_error(audience: Audience, catalogue: Catalogue) -> str:
    """Return the error of the first rule that this catalogue makes invalid; "" if all are valid."""

    def kind_of(name: str) -> tuple[Kind, str]:
        found = attributes.find_attribute(name, catalogue=catalogue)
        return found.kind, found.label

    try:
        parse(audience.rules, kind_of=kind_of)
    except RuleError as wrong:
        return str(wrong)
    return ""

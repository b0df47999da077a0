"""Random histories for change-driven matching: every path that writes data which rules see, and rounds between them.

After each round a full match must find nobody. A history is reproducible by its seed. Times are of the history, not of
the machine; only the database decides what a round has read.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from audiences import intake
from audiences.intake import tags as intake_tags
from audiences.intake.csv_import.upsert import COLUMNS, upsert_slice
from audiences.models import (
    Company,
    ConfirmationMail,
    CustomAttribute,
    Customer,
    Device,
    EventSummary,
    Membership,
    OptOutSource,
    Suppression,
    SuppressionReason,
    SuppressionSource,
    Tag,
    TopicOptOut,
    Workspace,
    consent,
)
from audiences.models.catalogue import Scope
from audiences.rules import Kind
from delivery.customers import erase, merge
from delivery.matching import changes, launch, lifecycle, ongoing, recheck, rounds, verification
from delivery.models import DeliveryRecord, Reason, Status
from delivery.models.match_state import MatchStateQuerySet
from delivery.sending import suppression
from delivery.tracking import links
from delivery.visits import visit
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from messaging.models import Channel, Checking, Message, MessageVersion, Sender
from tests.factories import AT, MessageFactory, TopicFactory, rule

EVENTS = ("ordered", "invited friend", "left")
TAGS = ("vip", "beta", "old")
COMPANIES = ("acme", "bell", "cyan")
NAMES = ("Ada", "Eve", "Bob", "")
PLANS = ("pro", "free", "team")
# Tables of a world, emptied before each history. The change log is not: entries are told apart by their transaction.
TABLES = (
    "audiences_workspace audiences_customattribute audiences_tag audiences_company audiences_customer"
    " audiences_audience audiences_eventname audiences_messagetopic messaging_message messaging_messageversion"
    " messaging_sender delivery_deliveryrecord"
)


class Killed(BaseException):
    """The worker was killed in the middle of a round."""


def audiences(one_off: int) -> list[dict[str, Any]]:
    """Return the rules of the messages; together they ask for every kind of data."""

    def every(*rules: Any) -> dict[str, Any]:
        return {"match": "all", "rules": list(rules)}

    def some(*rules: Any) -> dict[str, Any]:
        return {"match": "any", "rules": list(rules)}

    return [
        every(rule("last_seen_at", "more_than_days_ago", 2), rule("name", "is_not", "Bob")),
        every(rule("last_seen_at", "less_than_days_ago", 1), rule("session_count", "greater_than", 1)),
        every(
            rule("custom_attributes.trial_ends_at", "in_more_than_days", 3),
            rule("custom_attributes.plan", "is", "pro"),
        ),
        every(rule("custom_attributes.trial_ends_at", "exactly_days_from_now", 1)),
        some(
            rule("tag", "is", "vip"),
            every(rule("tag", "is_not", "beta"), rule("signed_up_at", "more_than_days_ago", 1)),
        ),
        every(rule("company.plan", "is", "pro"), rule("company.custom_attributes.seats", "greater_than", 5)),
        some(rule("company.last_seen_at", "more_than_days_ago", 1), rule("company.tag", "is", "vip")),
        every(rule("company.user_count", "greater_than", 3), rule("company.created_at", "more_than_days_ago", 2)),
        every(rule("company.custom_attributes.renews_at", "exactly_days_from_now", 2)),
        every(rule("event.ordered", "has_happened"), rule("event.left", "has_not_happened")),
        some(
            rule("event_count.ordered", "greater_than", 2), rule("event_last.invited friend", "more_than_days_ago", 1)
        ),
        every(rule("event_first.ordered", "exactly_days_ago", 1)),
        some(rule("received_message", "is", one_off), rule("clicked_message", "is", one_off)),
        every(rule("got_message", "is", one_off), rule("opened_message", "is_not", one_off)),
        every(rule("got_message", "is_not", one_off), rule("country", "is", "Ireland")),
        every(rule("replied_to_message", "is", one_off)),
        every(rule("role", "is", "lead")),
        every(rule("name", "contains", "a"), some(rule("utm_source", "is", "ad"), rule("first_name", "is", "Eve"))),
        every(rule("last_opened_email_at", "less_than_days_ago", 3), rule("last_clicked_email_at", "is_unknown")),
        every(rule("last_contacted_at", "more_than_days_ago", 1), rule("last_heard_from_at", "is_unknown")),
        every(rule("phone", "is_unknown"), rule("custom_attributes.plan", "is_not", "team")),
        every({"match": "none", "rules": [rule("custom_attributes.trial_ends_at", "in_less_than_days", 2)]}),
    ]


@dataclass
class History:
    """One random history; `failed` has the pairs that rounds missed."""

    seed: int
    # Names of the steps to choose from; all if empty.
    steps: tuple[str, ...] = ()
    random: Random = field(init=False)
    now: datetime = AT
    failed: list[str] = field(default_factory=list)
    compared: int = 0
    driven: int = 0
    made: int = 0
    # A second connection whose transaction stays open over a round, and its customer.
    late: Any = None
    late_customer: int | None = None
    created: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311 - reproducible
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(TABLES.split())} RESTART IDENTITY CASCADE")
        Workspace.current()
        Workspace.objects.update(double_opt_in=self.random.random() < 0.8)
        for scope, name, kind in (
            (Scope.CUSTOMER, "plan", Kind.TEXT),
            (Scope.CUSTOMER, "trial_ends_at", Kind.DATE),
            (Scope.COMPANY, "seats", Kind.NUMBER),
            (Scope.COMPANY, "renews_at", Kind.DATE),
        ):
            CustomAttribute.objects.create(scope=scope, name=name, kind=kind, created_at=AT)
        self.tags = {name: Tag.objects.create(name=name, created_at=AT) for name in TAGS}
        self.topics = [TopicFactory(), TopicFactory()]
        self.sender = Sender.objects.create(name="Ada", email="ada@acme.example")
        for _ in range(14):
            self.write_by_rest(new=True)
        for name in COMPANIES:
            self.write_company(name)
        for _ in range(12):
            self.join_company()
        self.one_off = MessageFactory(
            one_off=True, rules=[rule("session_count", "less_than", 1)], live=True, at=AT, sender=self.sender
        )
        in_app = MessageFactory(in_app=True, rules=[rule("name", "is", "Ada")], live=True, at=AT, sender=self.sender)
        stored = audiences(self.one_off.pk)
        for number, rules in enumerate(stored):
            topic = (*self.topics, None)[number % 3]
            channel = "push" if number in (1, 20) else "email"
            self.go_live(rules, per_company=number in (5, 6), channel=channel, topic=topic)
        self.go_live({"match": "all", "rules": [rule("received_message", "is", in_app.pk)]})
        happened = [rule("event.ordered", "has_happened"), rule("session_count", "less_than", 3)]
        self.go_live({"match": "any", "rules": happened}, only_new_matches=True)

    def go_live(self, rules: dict[str, Any], *, per_company: bool = False, **facts: Any) -> Message:
        tags = {name: tag.pk for name, tag in self.tags.items()}

        def with_keys(node: dict[str, Any]) -> dict[str, Any]:
            if "rules" in node:
                return {**node, "rules": [with_keys(one) for one in node["rules"]]}
            return {**node, "value": tags[node["value"]]} if node["attribute"] in ("tag", "company.tag") else node

        body = "<p>{{ company.name }}</p>" if per_company else "<p>Hello</p>"
        return MessageFactory(rules=with_keys(rules), live=True, at=self.now, body=body, sender=self.sender, **facts)

    # Chosen rows

    def customer(self, **facts: Any) -> Customer | None:
        rows = Customer.objects.filter(archived_at=None, **facts).exclude(pk=self.late_customer)
        keys = list(rows.order_by("pk").values_list("pk", flat=True))
        return Customer.objects.get(pk=self.random.choice(keys)) if keys else None

    def record(self, **facts: Any) -> DeliveryRecord | None:
        rows = DeliveryRecord.objects.filter(**facts).exclude(customer=self.late_customer)
        keys = list(rows.order_by("pk").values_list("pk", flat=True))
        return DeliveryRecord.objects.get(pk=self.random.choice(keys)) if keys else None

    def moment(self, *, days: int = 4) -> int:
        return int((self.now + timedelta(minutes=self.random.randint(-days * 1440, days * 1440))).timestamp())

    def facts(self) -> dict[str, Any]:
        """Return some facts of a customer as REST gives them."""
        draw = self.random
        possible: dict[str, Any] = {
            "name": draw.choice(NAMES),
            "phone": draw.choice(("1", "")),
            "custom_attributes": draw.choice(
                ({"plan": draw.choice(PLANS)}, {"trial_ends_at": self.moment()}, {"trial_ends_at": None, "plan": None})
            ),
            "signed_up_at": self.moment(),
            "last_request_at": int(self.now.timestamp()),
            "unsubscribed_from_emails": draw.random() < 0.3,
            "email": f"{draw.randint(0, 400)}@x.example",
            "new_session": True,
            "utm_source": draw.choice(("ad", "mail")),
        }
        return {key: possible[key] for key in draw.sample(sorted(possible), draw.randint(1, 3))}

    # Steps

    def write_by_rest(self, *, new: bool = False) -> None:
        known = None if new or self.random.random() < 0.2 else self.customer(role="user")
        self.created += known is None
        user_id = known.user_id if known and known.user_id else f"u{self.created}"
        facts = {**({"email": f"{user_id}@y.example"} if known is None else {}), **self.facts(), "user_id": user_id}
        intake.identify(facts, at=self.now)

    def write_lead(self) -> None:
        self.created += 1
        intake.save_lead({"email": f"lead{self.created}@z.example", "name": self.random.choice(NAMES)}, at=self.now)

    def import_rows(self) -> None:
        rows = []
        for line in range(self.random.randint(1, 4)):
            known = self.customer(role="user")
            self.created += 1
            row = dict.fromkeys(COLUMNS) | {
                "line": line,
                "user_id": known.user_id if known and self.random.random() < 0.7 else f"i{self.created}",
                "email": f"i{self.created}@x.example",
                "country": self.random.choice(("Ireland", "France")),
                "name": self.random.choice(NAMES) or None,
                "attributes": json.dumps({"plan": self.random.choice(PLANS)}),
                "company_id": self.random.choice(COMPANIES),
                "tags": '["vip"]' if self.random.random() < 0.2 else None,
            }
            rows.append([row[name] for name in COLUMNS])
        with transaction.atomic(), connection.cursor() as cursor:
            upsert_slice(cursor, rows, tag=None, at=self.now, with_relations=True)

    def write_company(self, name: str | None = None) -> None:
        draw = self.random
        facts: dict[str, Any] = {
            "company_id": name or draw.choice(COMPANIES),
            "plan": draw.choice(PLANS),
            "created_at": self.moment(),
            "custom_attributes": draw.choice(({"seats": draw.randint(1, 9)}, {"renews_at": self.moment()})),
        }
        intake.upsert_company(facts, at=self.now)

    def archive_company(self) -> None:
        one = Company.objects.order_by("pk")[self.random.randrange(Company.objects.count())]
        Company.objects.filter(pk=one.pk).update(archived_at=None if one.archived_at else self.now)

    def tag_company(self) -> None:
        change = self.random.choice(
            (
                lambda tag, of: intake.add_tag(tag, of, at=self.now),
                lambda tag, of: intake.remove_tag(tag, of, at=self.now),
            )
        )
        change(self.tags["vip"], [self.random.choice(list(Company.objects.order_by("pk")))])

    def join_company(self) -> None:
        if known := self.customer(role="user"):
            companies = [{"company_id": self.random.choice(COMPANIES)}]
            if self.random.random() < 0.3:
                companies[0]["remove"] = True
            intake.identify({"id": str(known.pk), "companies": companies}, at=self.now)

    def move_membership(self) -> None:
        keys = list(Membership.objects.order_by("pk").values_list("pk", flat=True))
        if not keys:
            return
        row = Membership.objects.get(pk=self.random.choice(keys))
        if self.random.random() < 0.5:
            row.delete()
        else:
            company = self.random.choice(list(Company.objects.order_by("pk")))
            if not Membership.objects.filter(customer=row.customer_id, company=company).exists():
                Membership.objects.filter(pk=row.pk).update(company=company)

    def change_tags(self) -> None:
        if known := self.customer():
            tag, among = self.tags[self.random.choice(TAGS)], Customer.objects.filter(pk=known.pk)
            change: Callable[[], object] = self.random.choice(
                (
                    lambda: intake.add_tag(tag, [known], at=self.now),
                    lambda: intake.remove_tag(tag, [known], at=self.now),
                    lambda: intake_tags.add_tag_to_all(among, tag, at=self.now),
                    lambda: intake_tags.remove_tag_from_all(among, tag),
                )
            )
            change()

    def record_event(self) -> None:
        if known := self.customer():
            happened = self.now - timedelta(minutes=self.random.randint(0, 4000))
            intake.record_event(known, self.random.choice(EVENTS), happened, {}, at=self.now)

    def change_event_summary(self) -> None:
        keys = list(EventSummary.objects.order_by("pk").values_list("pk", flat=True))
        if keys:
            row = EventSummary.objects.filter(pk=self.random.choice(keys))
            if self.random.random() < 0.5:
                row.delete()
            else:
                row.update(name=self.random.choice(EVENTS) + " once")

    def visit(self) -> None:
        if known := self.customer():
            company = Company.objects.filter(memberships__customer=known, archived_at=None).first()
            visit.visit(known, at=self.now, company=company)

    def check_customer(self) -> None:
        if known := self.customer():
            visit.check(known, at=self.now)

    def change_devices(self) -> None:
        if known := self.customer():
            token = f"token-{self.random.randint(1, 12)}"
            if self.random.random() < 0.6:
                intake.register_device(known, token=token, platform="android", at=self.now)
            else:
                Device.objects.retire([token], at=self.now)

    def archive(self) -> None:
        if known := self.customer():
            intake.archive_customer(known, at=self.now)

    def restore(self) -> None:
        archived = Customer.objects.exclude(archived_at=None).exclude(user_id=None).order_by("pk")
        if known := archived.first():
            intake.identify({"user_id": known.user_id}, at=self.now)

    def merge(self) -> None:
        lead, user = self.customer(role="lead"), self.customer(role="user")
        if lead and user:
            merge.merge(lead, into=user, at=self.now)

    def erase(self) -> None:
        if self.random.random() < 0.3 and (known := self.customer()):
            erase.erase(known, at=self.now)

    def send(self) -> None:
        """Send some waiting records, as a batch does."""
        keys = list(
            DeliveryRecord.objects.filter(status=Status.WAITING)
            .exclude(message__channel=Channel.IN_APP)
            .exclude(customer=self.late_customer)
            .order_by("-message_id" if self.random.random() < 0.5 else "message_id", "pk")
            .values_list("pk", flat=True)[: self.random.randint(1, 8)]
        )
        rows = DeliveryRecord.objects.filter(pk__in=keys)
        rows.update(version=MessageVersion.objects.latest("pk"))
        rows.mark_sending(claim=uuid.UUID(int=1), until=self.now)
        if self.random.random() < 0.2:
            rows.mark_failed(reason=Reason.REJECTED, detail="")
        else:
            rows.update(status=Status.SENT, sent_at=self.now, claim=None, leased_until=None, due_at=None)

    def open_or_click(self) -> None:
        sent = self.record(status=Status.SENT, message=self.one_off) or self.record(status=Status.SENT)
        if sent:
            links.update_engagement_times(sent, at=self.now, clicked=self.random.random() < 0.4)

    def reply(self) -> None:
        if sent := self.record(status=Status.SENT, replied_at=None, message=self.one_off):
            DeliveryRecord.objects.filter(pk=sent.pk).update(replied_at=self.now)
            Customer.objects.filter(pk=sent.customer_id).update(last_heard_from_at=self.now)

    def bounce_or_unsubscribe(self) -> None:
        if sent := self.record(status=Status.SENT, message__channel=Channel.EMAIL):
            change: Callable[[], object] = self.random.choice(
                (
                    lambda: suppression.record_hard_bounce(sent, address=sent.customer.email or "", at=self.now),
                    lambda: links.unsubscribe(sent, at=self.now),
                    lambda: links.subscribe_again(sent, at=self.now),
                )
            )
            change()

    def confirm_address(self) -> None:
        """Let the owner of a lead's address confirm it, or let the lead give another one."""
        if known := self.customer(role="lead"):
            if self.random.random() < 0.6 and known.email:
                ConfirmationMail.objects.request(known.email, customer=known, at=self.now)
                mail = ConfirmationMail.objects.of_address(known.email).get()
                consent.confirm_address(mail, at=self.now)
            else:
                self.created += 1
                intake.save_lead({"email": f"lead{self.created}@z.example"}, lead=known, at=self.now)

    def switch_double_opt_in(self) -> None:
        Workspace.objects.update(double_opt_in=self.random.random() < 0.5)

    def change_topics(self) -> None:
        if known := self.customer():
            topic = self.random.choice(self.topics)
            if not TopicOptOut.objects.filter(customer=known, topic=topic).delete()[0]:
                source = self.random.choice(list(OptOutSource))
                TopicOptOut.objects.opt_out([known.pk], topic, source=source, at=self.now)

    def clear_flags(self) -> None:
        if known := self.customer():
            Suppression.objects.of_address(known.email).lift(at=self.now)

    def suppress_address(self) -> None:
        """Add an address to the list, which a customer may have or get later."""
        known = self.customer()
        address = (known and known.email) or f"{self.random.randint(0, 400)}@x.example"
        reason = self.random.choice(list(SuppressionReason))
        Suppression.objects.suppress(address, reason, source=SuppressionSource.IMPORT, at=self.now)

    def complain(self) -> None:
        if known := self.customer():
            Customer.objects.filter(pk=known.pk).update(marked_email_as_spam=True)

    def withdraw(self) -> None:
        """Withdraw a waiting record whose customer may still match."""
        if row := self.record(status=Status.WAITING, message__send_type="ongoing"):
            DeliveryRecord.objects.filter(pk=row.pk).withdraw(reason=Reason.NO_LONGER_MATCHES)

    def recheck(self) -> None:
        DeliveryRecord.objects.filter(status=Status.WAITING, reason=Reason.QUEUED).exclude(
            customer=self.late_customer
        ).update(reason=Reason.WINDOW)
        for message in self.live_messages()[:2]:
            recheck.recheck_due(message, at=self.now)

    def begin_late_commit(self) -> None:
        """Change a customer in a transaction of another connection, which commits after the next rounds."""
        if self.late is None and (known := self.customer(role="user")):
            self.late, self.late_customer = connection.copy(), known.pk
            self.late.set_autocommit(False)
            with self.late.cursor() as cursor:
                cursor.execute(
                    "UPDATE audiences_customer SET name = %s, last_seen_at = %s, country = 'Ireland',"
                    " attributes = attributes || %s::jsonb WHERE id = %s",
                    [self.random.choice(NAMES), self.now, '{"plan": "pro"}', known.pk],
                )

    def end_late_commit(self) -> None:
        if self.late is not None:
            self.late.commit()
            self.late.close()
            self.late = self.late_customer = None

    def launch_one_off(self) -> None:
        """Launch a one-off that rules name: its copy is a new message with the same rules."""
        rules = [rule("session_count", "less_than", self.random.randint(1, 3))]
        message = MessageFactory(one_off=True, rules=rules, at=self.now, sender=self.sender)
        if Customer.objects.filter(archived_at=None, role="user", session_count__lt=1).exists():
            launch.launch(message, at=self.now)
            self.go_live({"match": "all", "rules": [rule("received_message", "is", message.pk)]})

    def live_messages(self) -> list[Message]:
        found = list(Message.objects.live().ongoing().exclude(channel=Channel.IN_APP).order_by("pk"))
        self.random.shuffle(found)
        return found

    def pause_edit_resume(self) -> None:
        message = self.live_messages()[0]
        lifecycle.pause(message)
        if self.random.random() < 0.5:
            asked = [rule("name", "is", self.random.choice(NAMES[:3]))]
            authoring.change_audience(message, rules={"match": "all", "rules": asked}, by=None, at=self.now)
        self.run_round()
        message_lifecycle.resume(Message.objects.get(pk=message.pk), at=self.now)

    def change_zone(self) -> None:
        Workspace.objects.update(zone=self.random.choice(("UTC", "Europe/Dublin")))

    def switch_off_and_on(self) -> None:
        settings.CHANGE_DRIVEN_MATCHING = False
        try:
            rounds.run_round(at=self.now)
            self.step()
        finally:
            settings.CHANGE_DRIVEN_MATCHING = True

    def pass_an_hour_of_the_log(self) -> None:
        """Move the entries to the slot of a past hour, so that the next round may truncate them."""
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE audiences_change SET slot = (date_part('hour', now())::int + 1) % 3"
                " WHERE slot = date_part('hour', now())::int % 3"
            )

    def lose_the_log(self) -> None:
        self.pass_an_hour_of_the_log()
        if self.late is None:
            changes.truncate_log(horizon=None)

    def be_killed_in_a_round(self) -> None:
        """Run a round that is killed before it inserts for one of its messages, or before it stores its states."""
        kept = ongoing.match_hits, MatchStateQuerySet.move_forward
        left = self.random.randint(0, 2)

        def match_hits(*args: Any, **how: Any) -> int | None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return kept[0](*args, **how)

        def move_forward(*_args: Any, **_how: Any) -> int:
            raise Killed

        ongoing.match_hits, MatchStateQuerySet.move_forward = match_hits, move_forward
        try:
            rounds.run_round(at=self.now)
        except Killed:
            pass
        finally:
            ongoing.match_hits, MatchStateQuerySet.move_forward = kept

    def match_at_once(self) -> None:
        """Let some messages be checked at once, and match what changed, with changes of the last moment left out."""
        for message in self.live_messages()[:8]:
            Message.objects.filter(pk=message.pk).update(checking=Checking.AT_ONCE)
        if self.random.random() < 0.5:
            with connection.cursor() as cursor:
                cursor.execute("UPDATE audiences_change SET at = at - interval '1 minute'")
        rounds.run_prompt_round(at=self.now)

    def jump(self) -> None:
        """Set the clock forward by days, or back."""
        self.now += timedelta(hours=self.random.choice((-30, -3, 50)))

    def let_time_pass(self) -> None:
        self.now += timedelta(minutes=self.random.randint(1, 300))

    # Running

    def step(self) -> None:
        names = self.steps or tuple(WEIGHTS)
        weights = [WEIGHTS[name] for name in names]
        getattr(self, self.random.choices(names, weights)[0])()

    def run_round(self) -> rounds.Round:
        self.now += timedelta(seconds=self.random.randint(1, 5000))
        return rounds.run_round(at=self.now)

    def compare(self) -> None:
        """Run a round, then judge everyone as of the same time."""
        done = self.run_round()
        self.made += done.made
        self.compared += len(done.by_changes) + len(done.in_full)
        self.driven += len(done.by_changes)
        for message in self.live_messages():
            for pair in verification.missing_pairs(ongoing.compile_now(message), at=self.now):
                self.failed.append(
                    f"seed {self.seed}: {message} {message.audience and message.audience.rules} missed {pair}"
                )

    def run(self, steps: int) -> None:
        """Run so many steps with a round after every few; stop at the first difference."""
        try:
            for _ in range(steps):
                self.step()
                if self.random.random() < 0.2:
                    self.compare()
                if self.failed:
                    return
            self.end_late_commit()
            self.compare()
        finally:
            if self.late is not None:
                self.late.rollback()
                self.late.close()


# Every step with its weight; rare ones make rounds judge everyone.
WEIGHTS: dict[str, float] = {
    **dict.fromkeys(("write_by_rest", "record_event", "visit", "withdraw", "let_time_pass"), 10),
    **dict.fromkeys(("import_rows", "write_lead", "change_tags", "join_company", "send", "open_or_click"), 5),
    **dict.fromkeys(("write_company", "tag_company", "move_membership", "change_devices", "reply"), 4),
    **dict.fromkeys(
        ("bounce_or_unsubscribe", "change_topics", "clear_flags", "complain", "archive", "restore", "merge", "erase"), 3
    ),
    "confirm_address": 4,
    **dict.fromkeys(("archive_company", "change_event_summary", "check_customer", "recheck"), 2),
    **dict.fromkeys(("begin_late_commit", "end_late_commit", "pass_an_hour_of_the_log", "be_killed_in_a_round"), 3),
    "match_at_once": 4,
    **dict.fromkeys(("jump", "launch_one_off", "pause_edit_resume"), 1),
    **dict.fromkeys(("switch_off_and_on", "lose_the_log", "change_zone", "switch_double_opt_in"), 0.15),
}

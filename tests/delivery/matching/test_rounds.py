"""Rounds: which messages are matched by changes, which in full, and the log between rounds."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.utils import DataError

from audiences import change_log
from audiences.models import Customer, Workspace
from audiences.rules import RELATIVE_DAY_OPERATORS, Operator
from delivery.maintenance import sweep
from delivery.matching import changes, dependencies, hits, lifecycle, ongoing, recheck, rounds, verification
from delivery.models import Alarm, AlarmKind, DeliveryRecord, MatchState, MissedMatch, Reason, Status
from delivery.monitoring import alarms
from messaging import authoring
from messaging import lifecycle as message_lifecycle
from messaging.models import Checking, Message
from tests.factories import CustomAttributeFactory, CustomerFactory, MessageFactory, rule
from tests.support.concurrency import elsewhere

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture
def ada():
    return CustomerFactory(user_id="ada", email="ada@x.example", name="Ada")


@pytest.fixture
def message(at, ada):
    return MessageFactory(live=True, at=at, rules=[rule("name", "is", "Eve")])


def disable_customer_log() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")


def enable_customer_log() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = DEFAULT")


def rename_without_log(name: str) -> None:
    """Change a customer in a way that the log does not see, as a defect would."""
    disable_customer_log()
    Customer.objects.update(name=name)
    enable_customer_log()


def move_entries_to_a_past_slot() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audiences_change SET slot = (date_part('hour', now())::int + 1) % 3")


def test_first_round_judges_everyone_and_the_next_only_changes(at, ada, message):
    first = rounds.run_round(at=at)
    assert (first.in_full, first.by_changes) == ([message.pk], [])

    Customer.objects.filter(pk=ada.pk).update(name="Eve")
    second = rounds.run_round(at=at + HOUR)

    assert (second.in_full, second.by_changes, second.candidates, second.made) == ([], [message.pk], 1, 1)
    message.refresh_from_db()
    assert message.last_matched_at == at + HOUR
    third = rounds.run_round(at=at + 2 * HOUR)
    assert (third.by_changes, third.candidates, third.made) == ([message.pk], 0, 0)


@pytest.mark.parametrize("is_first", [True, False], ids=["in full", "by changes"])
@pytest.mark.parametrize("during", ["requeue_withdrawn", "insert_slice"])
def test_customers_whom_a_pause_left_out_are_matched_after_the_resume(at, ada, message, monkeypatch, is_first, during):
    if is_first:
        Customer.objects.filter(pk=ada.pk).update(name="Eve")
    else:
        rounds.run_round(at=at)
        Customer.objects.filter(pk=ada.pk).update(name="Eve")
    step = getattr(ongoing, during)

    def pause_first(*arguments: object, **options: object) -> object:
        lifecycle.pause(message)
        try:
            return step(*arguments, **options)
        finally:
            message_lifecycle.resume(message, at=at)

    withdrawn = during == "requeue_withdrawn"
    if withdrawn:
        ongoing.match_hits(message, at=at, hits=f"VALUES ({ada.pk})")
        message.records.withdraw(reason=Reason.NO_LONGER_MATCHES)
    with monkeypatch.context() as patched:
        patched.setattr(ongoing, during, pause_first)
        rounds.run_round(at=at + HOUR)
    left_out = message.records.filter(status=Status.WAITING).count()
    # The dispatcher rechecks the records held by a pause.
    message.refresh_from_db()
    recheck.recheck_held(message, at=at + HOUR)

    rounds.run_round(at=at + 2 * HOUR)

    assert (left_out, message.records.filter(status=Status.WAITING).count()) == (0, 1)


def test_change_that_no_rule_sees_makes_no_candidate(at, ada, message):
    rounds.run_round(at=at)

    Customer.objects.filter(pk=ada.pk).update(last_seen_at=at, country="Ireland")

    assert rounds.run_round(at=at + HOUR).candidates == 0


def test_time_alone_makes_a_candidate_at_the_boundary(at):
    CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=3) + timedelta(minutes=90))
    message = MessageFactory(live=True, at=at, rules=[rule("last_seen_at", "more_than_days_ago", 3)])
    rounds.run_round(at=at)

    assert rounds.run_round(at=at + HOUR).made == 0
    done = rounds.run_round(at=at + 2 * HOUR)

    assert (done.by_changes, done.made) == ([message.pk], 1)


def test_every_operator_that_compares_with_now_has_boundaries():
    # Its days are calendar days of the workspace.
    by_calendar = {Operator.EXACTLY_DAYS_FROM_NOW}
    assert set(dependencies.BOUNDARY_DAYS) | by_calendar == set(RELATIVE_DAY_OPERATORS)


@pytest.mark.parametrize(
    ("operator", "days", "ahead"),
    [
        ("in_less_than_days", 3, timedelta(days=3, minutes=90)),
        ("less_than_days_ago", 3, timedelta(minutes=90)),
        ("exactly_days_from_now", 1, timedelta(days=1, hours=15)),
    ],
)
def test_time_alone_makes_candidates_of_future_dates(operator, days, ahead, at):
    """`at` is 10:00 in UTC. In Samoa, 13 hours ahead, the next day begins an hour later, 37 hours before the date."""
    Workspace.objects.update_or_create(pk=1, defaults={"zone": "Pacific/Apia"})
    CustomerFactory(email="a@x.example", signed_up_at=at + ahead)
    message = MessageFactory(live=True, at=at, rules=[rule("signed_up_at", operator, days)])
    rounds.run_round(at=at)

    quiet = rounds.run_round(at=at + timedelta(minutes=50))
    done = rounds.run_round(at=at + 2 * HOUR)

    assert (quiet.candidates, quiet.made) == (0, 0)
    assert (done.by_changes, done.candidates, done.made) == ([message.pk], 1, 1)


@pytest.mark.parametrize("jump", [timedelta(days=2), -timedelta(days=2)], ids=["forward", "back"])
def test_boundary_is_crossed_by_a_clock_that_jumps(jump, at):
    CustomerFactory(email="a@x.example", last_seen_at=at + jump - timedelta(days=3, hours=12))
    MessageFactory(live=True, at=at, rules=[rule("last_seen_at", "exactly_days_ago", 3)])
    assert rounds.run_round(at=at).made == 0

    assert rounds.run_round(at=at + jump).made == 1


def test_withdrawn_record_of_a_matching_customer_is_requeued(at, ada):
    message = MessageFactory(live=True, at=at)
    rounds.run_round(at=at)
    DeliveryRecord.objects.filter(message=message).withdraw(reason=Reason.NO_LONGER_MATCHES)

    done = rounds.run_round(at=at + HOUR)

    assert (done.by_changes, done.made) == ([message.pk], 1)
    assert message.records.get().status == Status.WAITING


@pytest.mark.parametrize(
    "what", ["rules", "zone", "kind", "log", "restored", "another cluster", "switched off", "failed"]
)
def test_everyone_is_judged_once_after(what, at, monkeypatch, settings, ada):
    CustomAttributeFactory(name="plan")
    message = MessageFactory(
        live=True, at=at, rules=[rule("name", "is", "Eve"), rule("custom_attributes.plan", "is_unknown")]
    )
    rounds.run_round(at=at)
    rename_without_log("Eve")
    assert rounds.run_round(at=at).made == 0
    if what == "rules":
        lifecycle.pause(message)
        asked = {"match": "all", "rules": [rule("name", "starts_with", "E")]}
        authoring.change_audience(Message.objects.get(pk=message.pk), rules=asked, by=None, at=at)
        message_lifecycle.resume(Message.objects.get(pk=message.pk), at=at)
    elif what == "zone":
        Workspace.objects.update(zone="Europe/Dublin")
    elif what == "kind":
        with connection.cursor() as cursor:
            cursor.execute("UPDATE audiences_customattribute SET kind = 'number'")
    elif what == "log":
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO audiences_change (bits, xid, slot) VALUES (1, 1, (date_part('hour', now())::int + 1) % 3)"
            )
        changes.truncate_log(horizon=None)
    elif what == "restored":
        MatchState.objects.update(horizon=2**60)
    elif what == "another cluster":
        # With the same counts of transactions.
        monkeypatch.setattr(change_log, "cluster_id", lambda: "another")
    elif what == "switched off":
        settings.CHANGE_DRIVEN_MATCHING = False
        MatchState.objects.filter(pk=message.pk).delete()
        settings.CHANGE_DRIVEN_MATCHING = True
    else:
        ongoing.record_problem(message.pk, "It failed.")

    done = rounds.run_round(at=at + HOUR)

    assert (done.in_full, done.made) == ([message.pk], 1)
    assert rounds.run_round(at=at + HOUR).by_changes == [message.pk]


def test_setting_that_is_off_judges_everyone_and_forgets_what_was_read(at, settings, ada, message):
    rounds.run_round(at=at)
    settings.CHANGE_DRIVEN_MATCHING = False

    assert rounds.run_round(at=at).in_full == [message.pk]
    assert MatchState.objects.count() == 0
    assert rounds.prompt_round_is_due() is None


def test_large_share_of_changed_customers_makes_a_round_judge_everyone(at, monkeypatch, ada, message):
    rounds.run_round(at=at)
    monkeypatch.setattr(changes, "SMALL_NUMBER", 0)
    monkeypatch.setattr(changes, "estimate_customer_count", lambda: 19)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")

    done = rounds.run_round(at=at)

    assert (done.in_full, done.made) == ([message.pk], 1)


def test_error_in_the_common_statement_makes_a_round_judge_everyone(at, monkeypatch, ada, message):
    rounds.run_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")

    def fail(*_args: object, **_how: object) -> None:
        raise ValueError

    monkeypatch.setattr(hits, "store_hits", fail)

    assert rounds.run_round(at=at).made == 1


def test_change_of_an_open_transaction_is_judged_after_its_commit(at, ada, message):
    rounds.run_round(at=at)
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("UPDATE audiences_customer SET name = 'Eve'")
        assert rounds.run_round(at=at).made == 0
        other.commit()
        assert rounds.run_round(at=at).made == 1
    finally:
        other.close()


@pytest.mark.parametrize("truncate", [rounds.truncate_read_entries, lambda: changes.truncate_log(horizon=None)])
def test_change_during_a_full_match_is_judged_although_another_process_truncates_the_log(
    at, monkeypatch, ada, message, truncate
):
    insert = ongoing.insert_new_records

    def change_and_truncate() -> None:
        Customer.objects.filter(pk=ada.pk).update(name="Eve")
        move_entries_to_a_past_slot()
        truncate()

    def insert_meanwhile(*args: object, **how: object) -> int:
        made = insert(*args, **how)
        elsewhere(change_and_truncate)
        return made

    with monkeypatch.context() as first:
        first.setattr(ongoing, "insert_new_records", insert_meanwhile)
        assert rounds.run_round(at=at).made == 0

    assert rounds.run_round(at=at + HOUR).made == 1


def test_sweep_deletes_the_entries_of_another_cluster_and_no_others(at, ada, message):
    rounds.run_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO audiences_change (customer_id, bits, xid) VALUES (%s, 1, %s)", [ada.pk, 2**60])

    sweep.sweep(at=at)

    with connection.cursor() as cursor:
        cursor.execute("SELECT max(xid) < %s FROM audiences_change", [2**60])
        assert cursor.fetchone() == (True,)
    assert rounds.run_round(at=at + HOUR).made == 1


def test_read_slots_of_past_hours_are_truncated_after_a_round(at, ada, message):
    rounds.run_round(at=at)
    move_entries_to_a_past_slot()

    rounds.run_round(at=at)

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM audiences_change")
        assert cursor.fetchone() == (0,)
    assert rounds.run_round(at=at).by_changes == [message.pk]


def test_sweep_truncates_a_log_that_nobody_reads(at, monkeypatch, ada, message):
    rounds.run_round(at=at)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audiences_change SET slot = (date_part('hour', now())::int + 1) % 3, xid = xid + 1000000"
        )
    rounds.truncate_unread_entries()
    assert MatchState.objects.count() == 1
    monkeypatch.setattr(rounds, "MAX_LOG_BYTES", 0)

    rounds.truncate_unread_entries()

    assert MatchState.objects.count() == 0


# Verification


def verify_for_an_hour(at) -> list[verification.Pair]:
    found = []
    for minute in range(60):
        found += verification.verify_next_slice(at=at + timedelta(minutes=minute))
    return found


def test_hourly_full_match_of_one_message_finds_nobody(at, ada, message):
    rounds.run_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")  # The next round judges this.

    assert verify_for_an_hour(at) == []
    state = MatchState.objects.get()
    assert (state.verifying_since, state.verify_from) == (at, None)


def test_messages_are_verified_in_turn_one_each_hour(at, ada, message):
    other = MessageFactory(live=True, at=at, rules=[rule("name", "is", "Bob")])
    rounds.run_round(at=at)

    verify_for_an_hour(at)
    verify_for_an_hour(at + HOUR)

    since = dict(MatchState.objects.values_list("message_id", "verifying_since"))
    assert since == {message.pk: at, other.pk: at + HOUR}


def test_missed_customer_raises_an_alarm_that_names_the_pair_and_is_matched(at, ada, message):
    rounds.run_round(at=at)
    rename_without_log("Eve")

    assert verify_for_an_hour(at) == [verification.Pair(ada.pk, None)]
    assert message.records.get().customer == ada
    alarms.check_alarms(at=at + HOUR)
    assert f"“{message}” missed customer {ada.pk}" in Alarm.objects.get(kind=AlarmKind.MISSED).description
    assert MissedMatch.objects.count() == 1
    assert verify_for_an_hour(at + 2 * HOUR) == []


def test_sweep_verifies_a_slice(at, ada, message):
    rounds.run_round(at=at)

    sweep.sweep(at=at)

    assert MatchState.objects.get().verify_from is not None


# Prompt rounds


@pytest.fixture
def prompt_message(at, ada):
    message = MessageFactory(live=True, at=at, rules=[rule("name", "is", "Eve")], checking=Checking.AT_ONCE)
    rounds.run_round(at=at)
    return message


def age_entries(seconds: float) -> None:
    """Let the entries of the log be older; younger, and so not quiet yet, if negative."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audiences_change SET at = at - make_interval(secs => %s)", [seconds])


def test_message_without_changes_has_no_prompt_round(prompt_message):
    rounds.run_prompt_round(at=prompt_message.went_live_at)

    assert rounds.prompt_round_is_due() is False


def test_only_messages_that_ask_for_it_have_prompt_rounds(at, ada, message):
    rounds.run_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")
    age_entries(2)

    assert rounds.prompt_round_is_due() is None
    assert rounds.run_prompt_round(at=at) == 0


def test_changed_customer_is_matched_after_one_quiet_second(at, ada, prompt_message):
    age_entries(2)
    rounds.run_prompt_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")
    age_entries(-60)

    assert rounds.prompt_round_is_due() is False
    assert rounds.run_prompt_round(at=at) == 0
    age_entries(120)
    assert rounds.prompt_round_is_due() is True
    assert rounds.run_prompt_round(at=at) == 1
    assert rounds.prompt_round_is_due() is False


def test_earlier_change_is_not_lost_while_later_ones_follow(at, ada, prompt_message):
    age_entries(2)
    rounds.run_prompt_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")
    age_entries(65)
    Customer.objects.filter(pk=ada.pk).update(email="eve@x.example")
    age_entries(-60)

    assert rounds.run_prompt_round(at=at) == 0
    age_entries(120)
    assert rounds.run_prompt_round(at=at) == 1


def test_customer_who_changes_all_the_time_is_matched_ten_seconds_after_the_first_change(at, ada, prompt_message):
    age_entries(2)
    rounds.run_prompt_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")
    age_entries(72)
    Customer.objects.filter(pk=ada.pk).update(email="eve@x.example")
    age_entries(-60)

    assert rounds.run_prompt_round(at=at) == 1
    assert rounds.prompt_round_is_due() is False


def test_large_share_of_changed_customers_leaves_a_prompt_round_to_a_full_match(at, monkeypatch, ada, prompt_message):
    Customer.objects.filter(pk=ada.pk).update(name="Eve")
    age_entries(2)
    monkeypatch.setattr(changes, "SMALL_NUMBER", 0)
    monkeypatch.setattr(rounds, "MANY_CHANGED", 0)
    monkeypatch.setattr(changes, "estimate_customer_count", lambda: 19)

    assert rounds.run_prompt_round(at=at) == 0

    assert rounds.prompt_round_is_due() is None
    assert not rounds.unmatched_messages(at=at).exists()
    later = at + 2 * rounds.FULL_MATCH_INTERVAL
    assert list(rounds.unmatched_messages(at=later)) == [prompt_message]
    assert ongoing.match(prompt_message, at=later) == 1
    assert not rounds.unmatched_messages(at=at + HOUR).exists()


def test_large_share_during_an_import_is_judged_promptly(at, monkeypatch, ada, prompt_message):
    rounds.run_round(at=at)
    monkeypatch.setattr(changes, "SMALL_NUMBER", 0)
    monkeypatch.setattr(changes, "estimate_customer_count", lambda: 19)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")
    age_entries(2)

    assert rounds.run_prompt_round(at=at) == 1

    assert MatchState.objects.filter(message=prompt_message).exists()


def test_message_whose_rules_fail_for_a_customer_holds_up_no_other_prompt_message(at, monkeypatch, ada, prompt_message):
    other = MessageFactory(live=True, at=at, rules=[rule("name", "is", "Eve")], checking=Checking.AT_ONCE)
    rounds.run_round(at=at)
    Customer.objects.filter(pk=ada.pk).update(name="Eve")
    age_entries(2)
    store_hits = hits.store_hits

    def fail_for_first(followed, *, at):
        if any(one.live.pk == prompt_message.pk for one in followed):
            raise DataError("value out of range")
        return store_hits(followed, at=at)

    monkeypatch.setattr(hits, "store_hits", fail_for_first)

    assert rounds.run_prompt_round(at=at) == 1
    assert other.records.get().customer == ada
    prompt_message.refresh_from_db()
    assert prompt_message.problem == ongoing.MATCHING_FAILED


def test_open_transaction_that_keeps_changes_unread_for_hours_raises_an_alarm(at, ada, message):
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("UPDATE audiences_workspace SET name = 'Idle'")
        Customer.objects.filter(pk=ada.pk).update(name="Bob")
        rounds.run_round(at=at)
        age_entries(3600)
        assert alarms.check_due_messages(at) == ""
        age_entries(3 * 3600)
        assert alarms.check_due_messages(at) == alarms.UNREAD_CHANGES
        # The server ends the transaction of a closed connection later.
        other.rollback()
    finally:
        other.close()
    rounds.run_round(at=at)
    assert alarms.check_due_messages(at) == ""


def test_prompt_round_leaves_boundaries_to_the_hourly_round(at):
    CustomerFactory(email="a@x.example", last_seen_at=at - timedelta(days=3) + timedelta(minutes=30))
    MessageFactory(live=True, at=at, rules=[rule("last_seen_at", "more_than_days_ago", 3)], checking=Checking.AT_ONCE)
    rounds.run_round(at=at)
    age_entries(2)

    rounds.run_prompt_round(at=at + HOUR)

    assert rounds.run_round(at=at + HOUR).made == 1


def test_round_updates_messages_and_states_without_changing_an_index(at, ada):
    for _ in range(40):
        MessageFactory(live=True, at=at, rules=[rule("name", "is", "Eve")])
    rounds.run_round(at=at)

    with transaction.atomic(), connection.cursor() as cursor:
        assert len(rounds.run_round(at=at + HOUR).by_changes) == 40
        for table in ("messaging_message", "delivery_matchstate"):
            cursor.execute(
                "SELECT pg_stat_get_xact_tuples_hot_updated(%(t)s::regclass),"
                " pg_stat_get_xact_tuples_updated(%(t)s::regclass)",
                {"t": table},
            )
            on_the_same_page, updated = cursor.fetchone()
            assert on_the_same_page == updated >= 40, table

"""The throttle of a channel, and the progress that a report shows."""

from datetime import date, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from delivery.models import DeliveryRecord, Pace, Reason
from messaging.models import Message, State
from outbound.messages import progress
from tests.factories import CustomerFactory, MessageFactory
from tests.outbound.composer.test_composer import message_page
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db
LIST = "/admin/delivery/pace/"
NEW = f"{LIST}add/"


def posted(**changes) -> dict[str, str]:
    return {"channel": "email", "per_second": "", "warm_up": "", "warm_up_from": "", "first": "", "until": ""} | changes


def test_limits_per_second_and_per_day_are_saved(console):
    console.post(NEW, posted(per_second="12.5", warm_up="50, 100,200", warm_up_from="2026-12-01"))

    pace = Pace.objects.get()
    assert (pace.channel, float(pace.per_second), pace.warm_up) == ("email", 12.5, [50, 100, 200])
    assert pace.warm_up_from == date(2026, 12, 1)
    shown = console.get(LIST).content.decode()
    assert "12.5 a second, warming up from 1 December 2026 over 3 days" in shown


def test_generated_plan_doubles_each_day(console):
    console.post(NEW, posted(first="50", until="500", warm_up_from="2026-12-01"))

    assert Pace.objects.get().warm_up == [50, 100, 200, 400, 500]


def test_change_is_logged_with_old_and_new_value(console):
    Pace.objects.create(channel="email", per_second=10, warm_up=[50], warm_up_from=date(2026, 12, 1))

    console.post(f"{LIST}email/change/", posted(per_second="20", warm_up="50, 100", warm_up_from="2026-12-01"))

    assert Pace.objects.get().warm_up == [50, 100]
    told = LogEntry.objects.get().change_message
    assert "to “20”" in told
    assert "Warm-up plan: from “50” to “50”, “100”" in told


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"per_second": "0"}, "per_second", "0.001"),
        ({"per_second": "-1"}, "per_second", "0.001"),
        ({"per_second": "fast"}, "per_second", "number"),
        ({"warm_up": "50, many", "warm_up_from": "2026-12-01"}, "warm_up", "“many” is not a whole number"),
        ({"warm_up": "50.5", "warm_up_from": "2026-12-01"}, "warm_up", "“50.5” is not a whole number"),
        ({"warm_up": "100, 50", "warm_up_from": "2026-12-01"}, "warm_up", "must not decrease"),
        ({"warm_up": "0", "warm_up_from": "2026-12-01"}, "warm_up", "“0” is not a whole number"),
        ({"warm_up": ",".join(["1"] * 91), "warm_up_from": "2026-12-01"}, "warm_up", "at most 90 days"),
        ({"warm_up": "50"}, "warm_up_from", "Choose the first day"),
        ({"warm_up": "50", "warm_up_from": "soon"}, "warm_up_from", "date"),
        ({"first": "50"}, "until", "Fill in both"),
        ({"until": "50"}, "first", "Fill in both"),
        ({"first": "50", "until": "5"}, "until", "at least the number"),
        ({"first": "50", "until": "500", "warm_up": "1"}, "warm_up", "not both"),
        ({"channel": "in_app"}, "channel", "valid choice"),
    ],
)
def test_invalid_value_shows_field_error(console, given, field, says):
    answer = console.post(NEW, posted(**given))

    assert says in " ".join(answer.context["adminform"].form.errors[field])
    assert not Pace.objects.exists()


def test_channel_has_one_row(console):
    Pace.objects.create(channel="email", per_second=10)

    assert "valid choice" in " ".join(console.post(NEW, posted()).context["adminform"].form.errors["channel"])
    console.post(NEW, posted(channel="push", per_second="5"))
    assert console.get(NEW).status_code == 403


def test_messages_sent_today_are_shown(console):
    today = timezone.localdate()
    Pace.objects.create(channel="email", warm_up=[1000, 2000], warm_up_from=today, day=today, taken_today=204)

    assert "204 of 1,000" in console.get(LIST).content.decode()


# Progress of a message


@pytest.fixture
def news() -> Message:
    for n in range(10):
        CustomerFactory(email=f"{n}@acme.example")
    return MessageFactory(title="News", one_off=True, live=True)


def send(message: Message, count: int, *, over: timedelta) -> None:
    now = timezone.now()
    pks = list(message.records.order_by("pk").values_list("pk", flat=True)[:count])
    for place, pk in enumerate(pks):
        mark_records_sent(DeliveryRecord.objects.filter(pk=pk), at=now - over * (count - place) / count)


def test_running_send_shows_progress_rate_and_end(console, news):
    send(news, 6, over=timedelta(seconds=30))

    found = progress.progress_view(news, at=timezone.now())

    assert found.words == "6 of 10 done."
    assert (found.percent, found.has_due) == (60, True)
    assert found.pace == "12 a minute."
    assert found.ends == "The speed is still being measured, so the end is not known yet."
    Pace.objects.create(channel="email", per_second="0.2")
    assert progress.progress_view(news, at=timezone.now()).ends.startswith("Done at about ")
    shown = console.get(message_page(news)).content.decode()
    assert "6 of 10 done." in shown
    assert f'data-refresh="{refresh_page(news)}" data-interval="5" data-say="Live: 50 % done"' in shown


def test_paused_send_shows_sent_and_waiting_counts(console, news):
    send(news, 6, over=timedelta(hours=2))
    console.post(f"/admin/messaging/message/{news.pk}/act/pause/")

    answer = console.get(refresh_page(news)).content.decode()

    assert "Stopped after 6 of 10." in answer
    assert 'data-interval="20"' in answer  # Somebody may have opened one of the last copies.
    assert "Done at about" not in answer


def test_end_is_not_estimated_without_recent_sends(news):
    found = progress.progress_view(news, at=timezone.now())

    assert found.pace == "Nothing was sent in the last minute."
    assert found.ends == "The speed is still being measured, so the end is not known yet."


def test_copies_for_a_later_time_show_that_time(news):
    news.records.update(reason=Reason.WINDOW, due_at=timezone.now() + timedelta(hours=5))

    found = progress.progress_view(news, at=timezone.now())

    assert (found.has_due, found.pace) == (False, "")
    assert found.ends.startswith("Sending continues ")


def test_finished_report_is_not_refreshed(console, news):
    records = news.records.all()
    mark_records_sent(records, at=timezone.now() - timedelta(hours=3))
    Message.objects.filter(pk=news.pk).update(state=State.SENT)

    assert 'data-interval="0" data-say="Sent"' in console.get(refresh_page(news)).content.decode()


def test_open_report_of_a_message_that_became_a_draft_again_is_told_so(console):
    draft = MessageFactory(title="News", one_off=True)

    assert console.get(refresh_page(draft)).status_code == 204


def refresh_page(message: Message) -> str:
    return f"/admin/messaging/message/{message.pk}/refresh/"

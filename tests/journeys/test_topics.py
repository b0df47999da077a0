"""Topics: staff give messages a topic, and customers choose what they get (behaviour 4.28)."""

import re
from urllib.parse import urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from audiences.models import Customer, MessageTopic, TopicOptOut
from delivery.models import DeliveryRecord
from delivery.reporting import counters
from messaging.models import Message
from tests.support.pages import as_page


class Mailbox:
    """The owner of an address, who follows the unsubscribe link of an email."""

    def __init__(self, email) -> None:
        self.path = urlsplit(email["List-Unsubscribe"].split(">")[0].strip(" <")).path

    def opens(self, query: str = "") -> str:
        return as_page(Client().get(f"{self.path}{query}").content.decode())

    def opens_preferences(self) -> dict[str, list[str]]:
        """Open the page with the choices, and return the fields that its form would post."""
        fields: dict[str, list[str]] = {}
        for tag in re.findall(r"<input [^>]*>", Client().get(f"{self.path}?choose=topics").content.decode()):
            if 'type="hidden"' in tag or " checked" in tag:
                name, value = re.search(r'name="(\w+)" value="(\w+)"', tag).groups()
                fields.setdefault(name, []).append(value)
        return fields

    def saves(self, shown: dict[str, list[str]], **changes: object) -> str:
        return self.posts("?choose=topics", save="yes", **{**shown, **changes})

    def posts(self, query: str = "", **fields: object) -> str:
        answered = Client(enforce_csrf_checks=True).post(f"{self.path}{query}", fields)
        assert answered.status_code == 200
        return as_page(answered.content.decode())


@pytest.fixture
def topics(staff) -> dict[str, MessageTopic]:
    """Two topics that an Admin added, and an archived one."""
    for name, facts in {
        "Tips": {"description": "How to get more out of Acme."},
        "News": {},
        "Old": {"is_archived": "on"},
    }.items():
        staff.presses("audiences_messagetopic_add", name=name, **facts)
    return {topic.name: topic for topic in MessageTopic.objects.all()}


def opted_out() -> list[tuple[str, str]]:
    return list(TopicOptOut.objects.values_list("customer__user_id", "topic__name").order_by("topic__name"))


def test_one_click_unsubscribes_from_the_topic_of_the_message_and_offers_everything(staff, server, post, topics):
    server.user("ann")
    first = staff.sets_live(subject="Tip 1", topic=topics["Tips"].pk)
    ann = Mailbox(post.to("ann")[0])

    asked = ann.opens()
    assert "Unsubscribe from “Tips”?" in asked
    assert "Unsubscribe from all emails" in asked
    assert opted_out() == []
    # RFC 8058, twice.
    for _ in range(2):
        done = ann.posts(**{"List-Unsubscribe": "One-Click"})
    assert "You are unsubscribed from “Tips”" in done
    assert opted_out() == [("ann", "Tips")]
    assert not Customer.objects.get().unsubscribed_from_emails
    assert counters.counts_of([first])[first].unsubscribed == 1

    staff.sets_live(subject="Tip 2", topic=topics["Tips"].pk)
    staff.sets_live(subject="News 1", topic=topics["News"].pk)
    staff.sets_live(subject="Without")
    assert post.subjects_to("ann") == ["Tip 1", "News 1", "Without"]
    unsent = staff.fields(subject="Tip 3", topic=topics["Tips"].pk, send_type="one_off")
    assert "Opted out of the topic “Tips” 1" in staff.presses("message_forecast", **unsent)

    assert "You are subscribed again" in ann.posts(again="topic")
    assert opted_out() == []
    assert "You are unsubscribed" in ann.posts(all="yes")
    staff.sets_live(subject="Tip 4", topic=topics["Tips"].pk)
    staff.sets_live(subject="Last")
    assert post.subjects_to("ann") == ["Tip 1", "News 1", "Without"]

    # No sentence says that emails come, because they do not.
    assert "Other emails still come" in done
    page = ann.posts()
    assert "You are unsubscribed from “Tips”" in page
    assert "Other emails still come" not in page
    assert "Unsubscribe from all emails" not in page
    assert "is unsubscribed from all emails" in ann.posts(again="topic")
    assert "may send emails to" in ann.posts(again="yes")


def test_preferences_page_changes_topics_and_email_and_only_what_it_showed(staff, server, post, topics):
    server.user("ann")
    staff.sets_live(subject="Hello", topic=topics["Tips"].pk)
    ann = Mailbox(post.to("ann")[0])
    page = ann.opens("?choose=topics")
    assert "How to get more out of Acme." in page
    assert "Old" not in page
    tips, news = str(topics["Tips"].pk), str(topics["News"].pk)
    both = [tips, news]
    assert ann.opens_preferences() == {
        "offered": [news, tips],
        "topic": [news, tips],
        "email_shown": ["yes"],
        "email": ["yes"],
    }

    ann.saves(ann.opens_preferences(), topic=[news])
    assert opted_out() == [("ann", "Tips")]
    assert DeliveryRecord.objects.exclude(unsubscribed_at=None).count() == 1
    # The page was opened before “News” was added, so it says nothing about it. A missing choice changes nothing.
    saved = ann.saves({"offered": [tips], "shown_without": [tips]}, topic=[tips])
    assert "Your choices are saved" in saved
    assert opted_out() == []
    # Keys that are not offered, or no keys at all, are ignored.
    ann.saves({"offered": ["x", "999999", str(topics["Old"].pk)]}, email="yes")
    assert opted_out() == []

    ann.saves(ann.opens_preferences(), email="no")
    assert Customer.objects.get().unsubscribed_by_customer_at is not None
    ann.saves(ann.opens_preferences(), topic=[tips], email="yes")
    assert not Customer.objects.get().unsubscribed_from_emails
    assert opted_out() == [("ann", "News")]
    # A field that the page did not post never subscribes again.
    ann.posts(all="yes")
    ann.saves({"offered": both}, topic=both, email="yes")
    assert Customer.objects.get().unsubscribed_from_emails
    assert opted_out() == [("ann", "News")]


def test_preferences_page_that_was_opened_earlier_undoes_no_opt_out(staff, server, post, topics):
    server.user("ann")
    staff.sets_live(subject="Tip", topic=topics["Tips"].pk)
    staff.sets_live(subject="Without")
    tip, without = map(Mailbox, post.to("ann"))
    shown = tip.opens_preferences()

    tip.posts(**{"List-Unsubscribe": "One-Click"})
    without.posts(**{"List-Unsubscribe": "One-Click"})
    page = tip.saves(shown, topic=[str(topics["Tips"].pk)])

    assert "Your choices are saved" in page
    assert opted_out() == [("ann", "News"), ("ann", "Tips")]
    assert Customer.objects.get().unsubscribed_from_emails


def test_saved_preferences_hold_for_a_customer_who_got_the_address_meanwhile(staff, server, post, topics):
    server.user("ann", email="shared@x.example")
    staff.sets_live(subject="News", topic=topics["News"].pk)
    staff.sets_live(subject="Tip", topic=topics["Tips"].pk)
    news, tip = map(Mailbox, post.to("shared"))
    tip.posts()
    server.user("bob", email="shared@x.example")

    news.saves(news.opens_preferences())

    assert opted_out() == [("ann", "Tips"), ("bob", "Tips")]
    assert DeliveryRecord.objects.exclude(unsubscribed_at=None).get().message.topic == topics["Tips"]


def test_message_without_a_topic_unsubscribes_from_everything_as_before(staff, server, post, topics):
    server.user("ann")
    staff.sets_live(subject="Hello")
    ann = Mailbox(post.to("ann")[0])
    assert "Choose what you get" in ann.opens()

    ann.posts(**{"List-Unsubscribe": "One-Click"})

    assert Customer.objects.get().unsubscribed_from_emails
    assert opted_out() == []
    # A page that was opened before the upgrade.
    assert "You are subscribed again" in ann.posts(again="yes")
    # A page of preferences that was opened before the last topic was archived.
    shown = ann.opens_preferences()
    MessageTopic.objects.update(is_archived=True)
    saved = ann.saves(shown, email="no")
    assert "Your choices are saved" in saved
    assert "Topics" not in saved
    assert Customer.objects.get().unsubscribed_from_emails


def test_opt_out_holds_for_everyone_who_has_the_address_now(staff, server, post, topics):
    server.user("ann", email="shared@x.example")
    server.user("bob", email="shared@x.example")
    staff.sets_live(subject="Tip", topic=topics["Tips"].pk)
    mail, _ = post.to("shared")

    Mailbox(mail).posts()

    assert opted_out() == [("ann", "Tips"), ("bob", "Tips")]


def test_direct_message_and_answer_reach_a_customer_who_opted_out(staff, server, post, topics):
    server.user("ann")
    TopicOptOut.objects.create(
        customer=Customer.objects.get(), topic=topics["Tips"], source="customer", created_at="2026-05-04T10:00Z"
    )

    staff.writes_to("ann", way="email", subject="To you")

    assert post.subjects_to("ann") == ["To you"]


def test_staff_see_and_change_topics_on_the_profile_and_the_log_records_it(staff, server, topics):
    server.user("ann")
    ann = Customer.objects.get()
    assert "Gets messages" in staff.reads("audiences_customer_change", ann.pk)

    page = staff.presses("customer_topic", ann.pk, out=topics["Tips"].pk)
    assert "Opted out on 4 May 2026. A teammate" in page
    TopicOptOut.objects.update(source="customer")
    staff.presses("customer_topic", ann.pk, back=topics["Tips"].pk)

    assert opted_out() == []
    said = LogEntry.objects.filter(object_id=str(ann.pk)).order_by("pk").values_list("change_message", flat=True)
    assert list(said) == ["Opted out of the topic “Tips”", "Opted in to the topic “Tips” again"]
    assert staff.browser.post(reverse("admin:customer_topic", args=[ann.pk]), {"out": "x"}).status_code == 404


def test_composer_offers_topics_in_use_and_the_list_filters_by_topic(staff, server, topics):
    page = staff.opens("messaging_message_add")
    offered = re.search(r'<select name="topic".*?</select>', page, re.DOTALL)[0]
    assert re.findall(r"<option[^>]*>([^<]+)<", offered) == ["No topic", "News", "Tips"]

    refused = staff.composes(topic=topics["Old"].pk)
    assert "This topic cannot be chosen" in refused
    draft = staff.saves(title="About tips", topic=topics["Tips"].pk)
    staff.saves(title="Other")
    assert Message.objects.get(pk=draft).topic == topics["Tips"]
    listed = staff.reads("messaging_message_changelist", topic__id__exact=topics["Tips"].pk)
    assert "About tips" in listed
    assert "Other" not in listed
    assert DeliveryRecord.objects.count() == 0
    # A draft keeps its topic when that is archived meanwhile.
    MessageTopic.objects.filter(name="Tips").update(is_archived=True)
    staff.edits(draft, title="About tips", topic=topics["Tips"].pk)
    assert Message.objects.get(pk=draft).topic == topics["Tips"]
    unsaved = staff.fields(topic=topics["Tips"].pk)
    assert "This topic cannot be chosen" in staff.presses("message_forecast", **unsaved)

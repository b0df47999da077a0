"""The composer: saved values, field errors, and buttons that act once."""

import html
import json
import re
import uuid
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from audiences import compiler
from audiences.models import Audience, Customer, Workspace
from delivery import rendering
from delivery.maintenance import sweep
from delivery.matching import forecast, launch, launch_job
from delivery.models import DeliveryRecord, Status
from messaging import duplication
from messaging.models import Checking, Message, SendType, State
from outbound.composer import confirm, review
from outbound.roles import Role
from tests.factories import (
    CustomAttributeFactory,
    CustomerFactory,
    EventSummaryFactory,
    MembershipFactory,
    MessageFactory,
    SegmentFactory,
    SenderFactory,
    TagFactory,
    rule,
)
from tests.support.pages import as_words
from tests.support.records import mark_records_sent

pytestmark = pytest.mark.django_db
LIST = "/admin/messaging/message/"
ADD = "/admin/messaging/message/add/"
FORECAST = "/admin/messaging/message/forecast/"
SHEET = "/admin/messaging/message/sheet/"


def message_page(message: Message) -> str:
    return reverse("admin:messaging_message_change", args=[message.pk])


def typed(written_as, **changes) -> dict[str, object]:
    """Return the form data of an email to everyone."""
    rules = changes.pop("rules", [])
    window = changes.pop("window", [])
    return {
        "title": "Welcome",
        "channel": "email",
        "format": "chat",
        "sender": written_as.pk,
        "subject": "Hello",
        "body": "<p>Hello {{ first_name | default: 'there' }}</p>",
        "send_type": "ongoing",
        "rules": json.dumps({"match": "all", "rules": rules}),
        "window": json.dumps(window),
        "window_zone": "workspace",
        "same_inbox_once": "on",
        "act": "save",
        **changes,
    }


def log() -> list[str]:
    """Return the log entries, oldest first."""
    return [entry.change_message for entry in LogEntry.objects.order_by("pk")]


def ticket(console) -> str:
    return re.search(r'name="ticket" value="([^"]+)"', console.get(ADD).content.decode())[1]


def test_saves_a_draft_with_its_audience_and_first_version(console, boss):
    sender = SenderFactory()

    answer = console.post(ADD, typed(sender, ticket=ticket(console), rules=[rule("email", "contains", "@acme")]))

    draft = Message.objects.get()
    assert answer.status_code == 302
    assert answer.url == message_page(draft)
    assert (draft.state, draft.title, draft.created_by, draft.went_live_at) == (State.DRAFT, "Welcome", boss, None)
    assert draft.audience.rules["rules"] == [rule("email", "contains", "@acme")]
    assert (draft.version.subject, draft.version.author) == ("Hello", boss)
    assert LogEntry.objects.get().change_message == "Saved a draft"


def test_name_defaults_to_the_subject(console):
    console.post(ADD, typed(SenderFactory(), ticket=ticket(console), title=" ", subject="Reports you can share"))

    assert Message.objects.get().title == "Reports you can share"


def test_author_of_a_draft_with_a_senders_name_that_they_may_not_use_reads_why_once(client):
    author = User.objects.create_user("kim", is_staff=True)
    author.groups.add(Group.objects.get(name=Role.AUTHOR))
    client.force_login(author)
    draft = MessageFactory(sender=SenderFactory(name="Ada", teammate=User.objects.create_user("ada")))

    page = client.get(message_page(draft)).content.decode()

    assert page.count("You cannot choose Ada for messages of your own. This message may keep it.") == 1
    assert "You cannot choose" not in client.get(ADD).content.decode()


def test_default_name_shows_variables_in_words(console):
    subject = 'Hi {{ first_name | default: "there" }}, your {{ company.plan }} plan'
    console.post(ADD, typed(SenderFactory(), ticket=ticket(console), title=" ", subject=subject))

    assert Message.objects.get().title == "Hi [first name], your [plan] plan"


def test_a_form_posted_twice_makes_one_message(console, django_capture_on_commit_callbacks):
    CustomerFactory(email="ada@acme.example")
    form = typed(SenderFactory(), ticket=ticket(console), act="live", send_type="one_off")

    with django_capture_on_commit_callbacks():
        console.post(ADD, form)
        again = console.post(ADD, form, follow=True)

    assert Message.objects.count() == DeliveryRecord.objects.count() == 1
    assert "live already" in again.content.decode()


def test_form_of_another_teammate_is_refused(console, log_in_with):
    shown = ticket(console)
    teammate = log_in_with("messaging.add_message", "messaging.view_message")

    theirs = teammate.post(ADD, typed(SenderFactory(), ticket=shown))
    made_up = teammate.post(ADD, typed(SenderFactory(), ticket="made up"))

    assert (theirs.status_code, made_up.status_code) == (400, 400)
    assert "This form belongs to another teammate. Reload the page and try again." in theirs.content.decode()
    assert "This form is not valid. Reload the page and try again." in made_up.content.decode()
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"act": "live", "body": "<p>{{ frist_name }}</p>"}, "body", "There is no variable"),
        ({"act": "live", "body": "<p>{{ first_name </p>"}, "body", "Line 1"),
        ({"act": "live", "subject": "{{ nobody }}"}, "subject", "There is no variable"),
        ({"channel": "pigeon"}, "channel", "not one of the available choices"),
        ({"send_type": ""}, "send_type", "Choose Ongoing or One-off."),
        ({"sender": "999999"}, "sender", "You cannot send as this sender"),
        ({"rules": [rule("email", "greater_than", "3")]}, "rules", "Rule 1"),
        ({"rules": [rule("", "is", "3")]}, "rules", "Rule 1 has no attribute."),
        ({"window": [{"weekday": 0, "from": "09:10", "to": "17:00"}]}, "window", "on the hour or the half hour"),
        ({"act": "schedule"}, "scheduled_for", "Choose a day and a time."),
        ({"act": "schedule", "scheduled_for": "tomorrow"}, "scheduled_for", "Enter a valid date/time."),
        ({"act": "sample", "send_type": "one_off"}, "sample", "Enter how many people"),
    ],
)
def test_invalid_input_shows_field_errors_and_keeps_the_text(console, changes, field, says):
    answer = console.post(ADD, typed(SenderFactory(), ticket=ticket(console), title="Keep me", **changes))

    form = answer.context["form"]
    assert answer.status_code == 200
    assert says in " ".join(form.errors[field])
    assert says.split("”")[0] in answer.content.decode().replace("&#x27;", "'")
    assert (form["title"].value(), form["window"].value()) == ("Keep me", json.dumps(changes.get("window", [])))
    assert not Message.objects.exists()
    assert not Audience.objects.exists()


@pytest.mark.parametrize("nonsense", ["{", "[" * 100_000, "3", '{"rules": 3}', '{"match": "most", "rules": []}'])
def test_rules_that_the_page_cannot_produce_are_refused(console, nonsense):
    answer = console.post(ADD, {**typed(SenderFactory(), ticket=ticket(console)), "rules": nonsense})

    assert answer.context["form"].errors["rules"]
    assert not Message.objects.exists()


def test_the_sentence_about_a_rule_stands_at_that_rule(console):
    group = {"match": "any", "rules": [rule("name", "is", "Ada"), rule("session_count", "is", "many")]}

    rules = [rule("role", "is", "user"), group]
    answer = console.post(ADD, typed(SenderFactory(), ticket=ticket(console), rules=rules))

    assert answer.context["place"] == "2.2"
    assert '<script id="rule-place" type="application/json">"2.2"</script>' in answer.content.decode()


def test_sender_of_another_teammate_is_refused(log_in_with, boss):
    own = SenderFactory(name="The boss", teammate=boss)
    console = log_in_with("messaging.add_message", "messaging.view_message", "messaging.change_message")

    answer = console.post(ADD, typed(own, ticket=ticket(console)))

    assert "sender" in answer.context["form"].errors
    assert "The boss" not in answer.content.decode()


def test_new_message_defaults_to_the_authors_or_the_only_sender(console, boss):
    def chosen() -> int | None:
        return console.get(ADD).context["form"]["sender"].value()

    team = SenderFactory(name="Team")
    assert chosen() == team.pk
    SenderFactory(name="Other team")
    assert chosen() is None
    own = SenderFactory(name="The boss", teammate=boss)
    assert chosen() == own.pk


def test_page_explains_a_missing_sender(console, log_in_with):
    assert '<a href="/admin/messaging/sender/add/">Add a sender</a>' in console.get(ADD).content.decode()
    author = log_in_with("messaging.add_message", "messaging.view_message")
    assert "Ask an admin to add one." in author.get(ADD).content.decode()
    SenderFactory()
    assert "No sender is available to you" not in author.get(ADD).content.decode()


def test_edits_a_draft_in_place(console):
    draft = MessageFactory(title="Old")

    console.post(
        message_page(draft), typed(draft.sender, title="New", channel="in_app", format="announcement", act="save")
    )

    draft.refresh_from_db()
    assert (draft.title, draft.channel, draft.format) == ("New", "in_app", "announcement")
    assert draft.versions.count() == 1


def test_push_is_typed_as_plain_text(console):
    words = 'Hi {{ first_name | default: "there" }}\n\nYour trial ends <soon> & soon'

    console.post(ADD, typed(SenderFactory(), ticket=ticket(console), channel="push", body="", text=words))

    draft = Message.objects.get()
    assert draft.version.body.count("<p>") == 2
    assert console.get(message_page(draft)).context["form"]["text"].value() == words


def test_only_push_keeps_its_link(console):
    draft = MessageFactory(channel="push")

    console.post(
        message_page(draft), typed(draft.sender, channel="push", text="Hi", link=" myapp://orders/{{ user_id }} ")
    )
    kept = draft.versions.get().link
    copied = duplication.duplicate(Message.objects.get(), by=None, at=timezone.now()).version.link
    console.post(message_page(draft), typed(draft.sender, link="https://x.example"))

    assert (kept, copied, draft.versions.get().link) == ("myapp://orders/{{ user_id }}", kept, "")


@pytest.mark.parametrize(
    "link",
    [
        "orders",
        "www.shop.example/a",
        "https://{{ name }}/a",
        "https://shop.example{{ name }}",
        "{{ custom_attributes.link }}",
        "javascript://%0aalert(1)",
        "JavaScript:alert(1)",
        "data:text/html,hi",
        "intent://scan/#Intent;end",
        "https://shop.example/a b",
        "https://user@shop.example/",
    ],
)
def test_push_link_must_be_a_url_with_a_fixed_host(console, link):
    draft = MessageFactory(channel="push")

    fields = typed(draft.sender, channel="push", text="Hi", link=link)
    answered = console.post(message_page(draft), {**fields, "act": "live"})

    assert answered.context["form"].errors["link"]
    assert draft.versions.get().link == ""


@pytest.mark.parametrize(
    "link",
    [
        "https://shop.example",
        "https://shop.example/orders?of={{ user_id | url_encode }}",
        "http://localhost:3000/a",
        "myapp://",
        "my-app://orders/{{ user_id }}",
    ],
)
def test_a_push_leads_to_a_website_or_into_an_app(console, link):
    draft = MessageFactory(channel="push")

    console.post(message_page(draft), typed(draft.sender, channel="push", text="Hi", link=link))

    assert draft.versions.get().link == link


def test_a_push_is_previewed_with_title_text_and_link(console):
    CustomerFactory(name="Ann Lee", email="ann@x.example", user_id="ann")
    said = {"subject": "Hi {{ first_name }}", "text": "Come back", "link": "app://u/{{ user_id }}"}

    shown = console.post(f"{LIST}preview/", typed(SenderFactory(), channel="push", **said))

    framed = html.unescape(re.search(r'srcdoc="([^"]*)"', shown.content.decode())[1])
    for words in ("Hi Ann", "Come back", "A tap opens app://u/ann"):
        assert words in framed


def framed_messenger(shown) -> tuple[str, dict]:
    """Return the page in the preview's frame, and the answers to the messenger in it."""
    framed = html.unescape(re.search(r'srcdoc="([^"]*)"', shown.content.decode())[1])
    assert 'sandbox="allow-scripts"' in shown.content.decode()
    return framed, json.loads(re.search(r'<script id="answers"[^>]*>(.*?)</script>', framed)[1])


def test_an_in_app_message_is_previewed_completely(console):
    shown = console.post(f"{LIST}preview/", typed(SenderFactory(), channel="in_app", body='<p>Say "hi" & wave</p>'))

    framed, answers = framed_messenger(shown)
    assert answers["conversations/1"]["parts"][0]["body"] == '<p>Say "hi" &amp; wave</p>'
    assert answers["ping"]["messages"][0]["format"] == "chat"
    assert framed.rstrip().endswith("</html>")


def test_an_announcement_is_previewed_with_its_title(console):
    CustomerFactory(name="Ann Lee", email="ann@x.example", user_id="ann")
    said = {"format": "announcement", "subject": "<News> for {{ first_name }}", "body": "<p>Read on</p>"}

    shown = console.post(f"{LIST}preview/", typed(SenderFactory(), channel="in_app", **said))

    (message,) = framed_messenger(shown)[1]["ping"]["messages"]
    assert (message["format"], message["subject"], message["body"]) == (
        "announcement",
        "<News> for Ann",
        "<p>Read on</p>",
    )


def test_a_chat_is_saved_without_the_subject_typed_while_it_was_something_else(console):
    wrong = "Hello {{ nobody_knows_this }"
    form = typed(SenderFactory(), title="", channel="in_app", subject=wrong, body="<p>Hi there</p>")

    console.post(ADD, {**form, "ticket": ticket(console)})

    draft = Message.objects.get()
    assert (draft.title, draft.version.subject) == ("Hi there", "")


def test_new_version_of_an_announcement_keeps_its_title(console):
    message = MessageFactory(channel="in_app", format="announcement", live=True)

    console.post(f"{LIST}{message.pk}/content/", typed(message.sender, subject="More news", body="<p>Hi</p>"))

    assert message.versions.latest("number").subject == "More news"


def test_review_warns_about_push_without_a_provider(console, settings):
    draft = MessageFactory(channel="push", body="<p>Hi</p>")

    def warned() -> bool:
        shown = console.post(f"{LIST}forecast/", typed(draft.sender, channel="push", text="Hi"))
        return "are only written to the server’s log" in shown.content.decode()

    settings.FCM_CREDENTIALS = ""
    without = warned()
    settings.FCM_CREDENTIALS = "{}"

    assert (without, warned()) == (True, False)


def test_sets_an_ongoing_email_live_and_has_it_matched(console, django_capture_on_commit_callbacks, nudged):
    draft = MessageFactory()

    with django_capture_on_commit_callbacks(execute=True):
        console.post(message_page(draft), typed(draft.sender, act="live"))

    draft.refresh_from_db()
    assert draft.state == State.LIVE
    assert nudged == [("match", draft.pk)]
    assert [re.split(r"[:.]", logged)[0] for logged in log()] == ["Edited the draft", "Set live"]


def test_one_off_goes_live_for_current_matches(console):
    CustomerFactory(email="ada@acme.example")
    CustomerFactory(email="bob@other.example")
    draft = MessageFactory(one_off=True)

    form = typed(draft.sender, send_type="one_off", rules=[rule("email", "contains", "acme")], act="live")
    answer = console.post(message_page(draft), form, follow=True)

    assert draft.records.get().customer.email == "ada@acme.example"
    assert "is live and goes to 1 person." in answer.content.decode()


def test_refused_launch_names_the_missing_content_and_saves_nothing(console):
    draft = MessageFactory()
    new = typed(draft.sender, sender="", subject="", act="live", ticket=ticket(console))

    for page in (message_page(draft), ADD):
        answer = console.post(page, new)
        said = answer.content.decode()
        assert "An email needs a subject." in said
        assert "Choose who the message is from." in said
        assert answer.context["form"]["body"].value() == new["body"]

    draft.refresh_from_db()
    assert (draft.state, draft.version.subject, Message.objects.count()) == (State.DRAFT, "Hello", 1)
    assert log() == []


def test_one_off_without_matches_stays_a_draft(console):
    draft = MessageFactory(one_off=True)

    answer = console.post(message_page(draft), typed(draft.sender, send_type="one_off", act="live"), follow=True)

    assert "No customer matches right now" in answer.content.decode()
    assert Message.objects.get().state == State.DRAFT


def test_schedules_a_one_off_on_the_workspaces_clock(console):
    workspace_zone("Asia/Tokyo")
    CustomerFactory(email="ada@acme.example")
    draft = MessageFactory(one_off=True)

    form = typed(draft.sender, send_type="one_off", act="schedule", scheduled_for="2999-05-04T09:30")
    answer = console.post(message_page(draft), form, follow=True)

    draft.refresh_from_db()
    assert draft.state == State.SCHEDULED
    assert draft.scheduled_for.isoformat() == "2999-05-04T00:30:00+00:00"
    assert draft.reviewed_count == 1
    assert "4 May 2999" in answer.content.decode()


def test_a_schedule_in_the_past_is_refused(console):
    CustomerFactory(email="ada@acme.example")
    draft = MessageFactory(one_off=True)

    form = typed(draft.sender, send_type="one_off", act="schedule", scheduled_for="2020-05-04T09:30")
    answer = console.post(message_page(draft), form, follow=True)

    assert "The time must be in the future." in answer.content.decode()
    assert Message.objects.get().state == State.DRAFT


def test_tries_it_on_a_few_and_then_sends_to_the_rest(console):
    CustomerFactory.create_batch(5)
    draft = MessageFactory(in_app=True, one_off=True)

    form = typed(draft.sender, channel="in_app", send_type="one_off", act="sample", sample="2")
    console.post(message_page(draft), form)
    assert (draft.records.count(), Message.objects.get().state) == (2, State.SAMPLED)
    sheet_of(console, draft, "rest")
    assert Message.objects.get().state == State.SAMPLED
    console.post(f"/admin/messaging/message/{draft.pk}/act/rest/", {"reviewed": "3", "receiving": "3"})

    assert (draft.records.count(), Message.objects.get().state) == (5, State.LIVE)
    assert any(logged.startswith("Sent to the rest") for logged in log())


def sheet_of(console, message: Message, verb: str, **posted: str) -> str:
    """Return the text of the sheet that a button of the report opens."""
    address = f"/admin/messaging/message/{message.pk}/act/{verb}/"
    return as_words(console.post(address, posted, headers={"HX-Target": "sheet"}).content.decode())


def test_the_rest_shows_and_sends_the_same_number_and_explains_the_difference(console):
    for n in range(4):
        CustomerFactory(name=f"Person {n}", email=f"{n}@acme.example")
    for n in range(2):
        CustomerFactory(name=f"Gone {n}", email=f"gone{n}@acme.example", unsubscribed_from_emails=True)
    message = MessageFactory(one_off=True)
    launch.launch(message, at=timezone.now(), sample=1)

    shown = " ".join(sheet_of(console, message, "rest").split())
    done = console.post(
        f"/admin/messaging/message/{message.pk}/act/rest/", {"reviewed": "5", "receiving": "3"}, follow=True
    )

    assert "3 people will receive it" in shown
    assert "5 match. Left out: Unsubscribed from emails2" in shown
    assert "Person" in shown
    assert "Gone" not in shown
    assert "goes to the rest: 3 people. 2 more match but are left out" in done.content.decode()
    assert message.records.filter(status=Status.WAITING, sent_at=None).count() == 4


@pytest.mark.parametrize("act", ["live", "schedule", "sample"])
def test_one_off_that_reaches_no_one_is_refused_with_the_reason(console, act):
    CustomerFactory(email="gone@acme.example", unsubscribed_from_emails=True)
    form = typed(SenderFactory(), ticket=ticket(console), send_type="one_off", act=act)
    form |= {"scheduled_for": "2999-05-04T09:30", "sample": "5"}
    reason = "1 matches now and all are left out, so it would reach no one."

    assert "1 matches now" in console.post(FORECAST, form).content.decode()
    sheet = console.post(SHEET, form).content.decode()
    assert reason in sheet
    assert "ob-button ob-primary" not in sheet
    refused = console.post(ADD, {**form, "reviewed": "1", "receiving": "0"}, headers={"HX-Target": "sheet"})

    assert reason in refused.content.decode()
    assert not Message.objects.exists()


def test_rest_that_reaches_no_one_is_refused(console):
    CustomerFactory(email="ada@acme.example")
    message = MessageFactory(one_off=True)
    launch.launch(message, at=timezone.now(), sample=1)

    assert forecast.NO_REST_MATCH in sheet_of(console, message, "rest")
    assert forecast.NO_REST_MATCH in sheet_of(console, message, "rest", reviewed="0", receiving="0")
    assert Message.objects.get().state == State.SAMPLED


def test_counts_as_one_types_without_saving(console):
    CustomerFactory(email="ada@acme.example")
    CustomerFactory(email="bob@acme.example", unsubscribed_from_emails=True)
    CustomerFactory(email="eve@other.example")

    form = typed(SenderFactory(), rules=[rule("email", "contains", "acme")])
    said = console.post(FORECAST, form).content.decode()

    assert "2 match now, 1 will receive it" in said
    assert "Unsubscribed from emails" in said
    assert "Ready to set live" in said
    assert "Email contains acme" in said
    assert not Message.objects.exists()
    assert not Audience.objects.exists()


def test_count_per_company_includes_copies_and_people_without_a_company(console):
    customer = MembershipFactory(customer__email="ada@acme.example").customer
    MembershipFactory(customer=customer)
    CustomerFactory(email="bob@acme.example")

    said = console.post(FORECAST, typed(SenderFactory(), body="<p>{{ company.name }}</p>")).content.decode()

    assert (
        "1 person gets 2 messages, one for each of their companies that match. 1 person in no company gets none."
        in said
    )
    assert review.ONCE_PER_COMPANY in said


def test_count_reports_an_incomplete_rule(console):
    answer = console.post(FORECAST, typed(SenderFactory(), rules=[rule("session_count", "greater_than", "")]))

    assert answer.status_code == 200
    assert "Rule 1" in answer.content.decode()


@pytest.mark.parametrize("text", ["{{ first_name", "{% if %}", "{{ nobody }}"])
def test_the_count_survives_a_text_still_being_typed(console, text):
    answer = console.post(FORECAST, typed(SenderFactory(), body=text))

    assert "Line 1" in answer.content.decode()


def test_segments_that_grew_too_large_are_reported_by_count_and_launch(console):
    segment = SegmentFactory(name="Grown")
    draft = MessageFactory(one_off=True, rules=[rule("segment", "is", segment.pk)])
    many = {"match": "all", "rules": [rule("name", "is", str(n)) for n in range(200)]}
    inner = [SegmentFactory(rules=many) for _ in range(3)]
    Audience.objects.filter(pk=segment.pk).update(rules={"rules": [rule("segment", "is", one.pk) for one in inner]})
    form = typed(draft.sender, send_type="one_off", rules=[rule("segment", "is", segment.pk)])

    for said in (
        console.post(FORECAST, form).content.decode(),
        " ".join(console.post(message_page(draft), {**form, "act": "live"}).context["form"].errors["rules"]),
        console.post(f"/admin/messaging/message/{draft.pk}/act/live/", follow=True).content.decode(),
    ):
        assert "“Segment is Grown”" in html.unescape(said)
        assert "600 rules" in said
    assert Message.objects.get().state == State.DRAFT


def test_two_negative_rules_joined_by_or_are_warned_about(console):
    form = typed(SenderFactory())
    either = {"match": "any", "rules": [rule("name", "is_not", "Ada"), rule("country", "is_not", "Ireland")]}

    said = console.post(FORECAST, {**form, "rules": json.dumps(either)}).content.decode()

    assert "almost everyone" in said


def test_review_says_who_is_left_out_of_a_message_to_new_matches(console):
    for name in ("ada", "bob"):
        customer = CustomerFactory(email=f"{name}@x.example")
        EventSummaryFactory(customer=customer, name="ordered")
    happened = {"match": "all", "rules": [rule("event.ordered", "has_happened")]}
    form = {**typed(SenderFactory()), "rules": json.dumps(happened)}

    said = console.post(FORECAST, form).content.decode()
    assert "This includes everyone for whom “ordered” ever happened." in said
    assert "2 match now, all will receive it" in said
    # The field says so already, without delivery times.
    assert '<p class="ob-help" id="window-words"></p>' in said

    form["only_new_matches"] = "on"
    said = console.post(FORECAST, form).content.decode()
    assert "ever happened" not in said
    assert "2 match now, all are left out" in said
    assert "Matched already at go-live" in said

    console.post(ADD, {**form, "act": "live", "ticket": console.get(ADD).context["ticket"]})
    message = Message.objects.get()
    assert (message.state, message.only_new_matches) == (State.LIVE, True)
    report = console.get(message_page(message)).content.decode()
    assert "Sends to anyone who starts to match the filters after it goes live." in report
    assert "Matched already at go-live" in report
    page = console.get(reverse("admin:customer_why", args=[customer.pk]), {"message": message.pk}).content.decode()
    assert "This customer matched already when the message went live" in page
    assert "An event counts only if it happened after the message went live" in page

    one_off = {**form, "send_type": "one_off", "ticket": console.get(ADD).context["ticket"]}
    console.post(ADD, {**one_off, "act": "save"})
    assert not Message.objects.latest("pk").only_new_matches


def test_end_of_an_in_app_message_is_reviewed_logged_explained_and_changed_while_live(console):
    ada = CustomerFactory(email="ada@x.example")
    form = typed(SenderFactory(), channel="in_app", format="announcement", subject="Sale")
    past = console.post(FORECAST, {**form, "shown_until": "2020-01-31T18:00"}).content.decode()
    assert "“Stop showing on” must be later than the time when it goes live." in past
    unreadable = console.post(FORECAST, {**form, "shown_until": "soon"}).content.decode()
    assert "Enter a day and a time for “Stop showing on”." in unreadable
    form["shown_until"] = "2099-01-31T18:00"
    assert "It is shown until Saturday 31 January 2099 at 18:00." in console.post(FORECAST, form).content.decode()

    console.post(ADD, {**form, "act": "live", "ticket": console.get(ADD).context["ticket"]})

    message = Message.objects.get()
    assert message.state == State.LIVE
    assert timezone.localtime(message.shown_until, Workspace.current().tz).isoformat()[:16] == "2099-01-31T18:00"
    assert "Shown until 31 Jan 2099, 18:00" in console.get(message_page(message)).content.decode()
    content = reverse("admin:message_edit_content", args=[message.pk])
    assert 'value="2099-01-31T18:00"' in console.get(content).content.decode()
    refused = console.post(content, {**form, "shown_until": "2020-01-31T18:00"})
    assert "To end the message now, stop it." in refused.content.decode()
    console.post(content, {**form, "shown_until": ""})
    message.refresh_from_db()
    assert message.shown_until is None
    assert log()[-1] == "Stop showing on: from “Saturday 31 January 2099 at 18:00” to nothing"

    ended = timezone.now() - timedelta(minutes=5)
    Message.objects.update(shown_until=ended)
    why = console.get(reverse("admin:customer_why", args=[ada.pk]), {"message": message.pk}).content.decode()
    assert "This customer did not visit and match before that." in why

    email = {**form, "channel": "email", "ticket": console.get(ADD).context["ticket"]}
    console.post(ADD, {**email, "act": "save"})
    assert Message.objects.latest("pk").shown_until is None


def test_meant_value_is_suggested(console):
    CustomAttributeFactory(name="plan")
    for plan in ("pro", "pro", "PRO ", "100%"):
        CustomerFactory(attributes={"plan": plan}, city="Cork")

    def meant(value: str, attribute: str = "custom_attributes.plan") -> str:
        address = reverse("admin:message_known_values")
        return console.get(address, {"attribute": attribute, "is": value}).json()["meant"]

    assert [meant(value) for value in ("Pro", " Pro ", "pro", "p_o", "100%", "pr")] == ["pro", "pro", "", "", "", ""]
    assert [meant("cork", "city"), meant("cork", "session_count"), meant("x", "no_such")] == ["Cork", "", ""]


def test_event_that_never_arrived_is_warned_about(console):
    EventSummaryFactory(name="ordered")
    rules = [rule("event.ordered", "has_happened"), rule("event_count.Left.Now", "greater_than", 1)]

    said = console.post(
        FORECAST, {**typed(SenderFactory()), "rules": json.dumps({"match": "all", "rules": rules})}
    ).content.decode()

    assert "No event has arrived yet under the name “left-now”. Check the spelling." in said


def test_ten_matching_people_are_named_below_the_count(console):
    for n in range(12):
        MembershipFactory(customer__name=f"Ada {n:02}", company__plan="pro")
    CustomerFactory(name="Bob")
    form = typed(SenderFactory())
    form["rules"] = json.dumps({"match": "all", "rules": [rule("company.plan", "is", "pro")]})

    answer = console.post(FORECAST, form)
    assert [one.name for one in answer.context["matching"]] == [f"Ada {n:02}" for n in range(11, 1, -1)]
    assert "10 of them" in answer.content.decode()
    segment = console.post(reverse("admin:audience_count_people"), {"name": "Pro", "rules": form["rules"]})
    assert len(segment.context["matching"]) == 10

    form["rules"] = json.dumps({"match": "all", "rules": [rule("name", "is", "Bob")]})
    assert "They are" in console.post(FORECAST, form).content.decode()


def test_presets_add_rules_that_can_be_edited(console):
    labels = [preset["label"] for preset in console.get(ADD).context["offer"]["presets"]]
    assert labels == ["First time someone does X", "Signed up N days ago and has not done X", "Not seen for N days"]

    CustomAttributeFactory(name="trial_ends_at", kind="date")
    first, *_ = console.get(ADD).context["offer"]["presets"]
    assert first["rules"] == [rule("custom_attributes.trial_ends_at", "exactly_days_from_now", 3)]


def test_rule_builder_offers_existing_rows_by_name(console):
    TagFactory(name="VIP")
    SegmentFactory(name="On trial")
    CustomAttributeFactory(name="plan")
    MessageFactory(title="Another one")

    offered = console.get(ADD).context["offer"]

    names = {attribute["name"] for group in offered["groups"] for attribute in group["attributes"]}
    assert {"email", "company.plan", "custom_attributes.plan", "received_message", "segment"} <= names
    assert offered["choices"]["tag"][0][1] == "VIP"
    assert offered["segments"][0]["name"] == "On trial"
    assert offered["choices"]["message"][0][1] == "Another one"
    assert offered["choices"]["role"] == [["user", "User"], ["lead", "Lead"]]


def test_live_message_shows_a_report_with_its_locked_settings(console):
    message = MessageFactory(live=True)

    said = console.get(message_page(message)).content.decode()

    assert "are locked, because this message has been live." in said
    assert 'name="send_type"' not in said


def test_posting_the_composer_for_a_live_message_changes_nothing(console):
    message = MessageFactory(live=True, title="Live one")

    answer = console.post(
        message_page(message), typed(message.sender, title="Changed", send_type="one_off"), follow=True
    )

    message.refresh_from_db()
    assert (message.title, message.send_type) == ("Live one", "ongoing")
    assert "Nothing was changed." in answer.content.decode()


def test_the_composer_is_not_for_a_message_to_one_person(console):
    message = MessageFactory(to_customer=CustomerFactory(), in_app=True, title="To Ada")

    answer = console.post(message_page(message), typed(message.sender, title="Changed"), follow=True)

    message.refresh_from_db()
    assert (answer.status_code, message.title) == (200, "To Ada")


def test_edits_live_content_as_a_new_version(console, boss):
    message = MessageFactory(live=True, subject="First")

    form = {"title": message.title, "sender": message.sender_id, "subject": "Second", "body": "<p>New</p>"}
    console.post(f"/admin/messaging/message/{message.pk}/content/", form)

    message.refresh_from_db()
    assert [version.subject for version in message.versions.order_by("number")] == ["First", "Second"]
    assert message.version.author == boss
    assert LogEntry.objects.get().change_message.startswith("Edited the content: version 2. Subject: from “First”")


def test_content_that_would_change_how_often_it_sends_is_refused(console):
    message = MessageFactory(live=True)

    form = {"title": "x", "sender": message.sender_id, "subject": "Hi", "body": "<p>{{ company.name }}</p>"}
    answer = console.post(f"/admin/messaging/message/{message.pk}/content/", form)

    assert "add the first company variable" in " ".join(answer.context["form"].errors["body"])
    assert message.versions.count() == 1


def test_filters_of_an_ongoing_message_are_edited_while_paused(console):
    message = MessageFactory(live=True)
    address = f"/admin/messaging/message/{message.pk}/audience/"
    form = {"rules": json.dumps({"match": "all", "rules": [rule("name", "is", "Ada")]}), "window": "[]"}

    refused = console.post(address, form, follow=True)
    message.audience.refresh_from_db()
    assert message.audience.rules["rules"] == []
    assert "Pause this message to edit its audience." in refused.content.decode()

    console.post(f"/admin/messaging/message/{message.pk}/act/pause/")
    console.post(address, form)
    message.audience.refresh_from_db()
    assert message.audience.rules["rules"] == [rule("name", "is", "Ada")]
    assert message.versions.count() == 2


def test_time_of_the_check_is_chosen_in_a_draft_and_while_paused_and_shown(console):
    sender = SenderFactory()
    console.post(ADD, typed(sender, ticket=ticket(console)))
    draft = Message.objects.get()
    assert draft.checking == Checking.HOURLY
    console.post(message_page(draft), typed(sender, checking="at_once"))
    draft.refresh_from_db()
    assert draft.checking == Checking.AT_ONCE
    assert "Filters are checked" in log()[-1]
    assert review.timing_sentence(draft) == review.CHECKED_AT_ONCE
    assert duplication.duplicate(draft, by=None, at=timezone.now()).checking == Checking.AT_ONCE
    launch.launch(draft, at=timezone.now())
    assert "Checked as soon as something changes and on each visit" in console.get(message_page(draft)).content.decode()

    console.post(f"/admin/messaging/message/{draft.pk}/act/pause/")
    form = {"rules": json.dumps({"match": "all", "rules": []}), "window": "[]", "window_zone": "workspace"}
    console.post(f"/admin/messaging/message/{draft.pk}/audience/", form | {"checking": "hourly"})

    draft.refresh_from_db()
    assert draft.checking == Checking.HOURLY
    assert review.timing_sentence(draft) == review.TIMING_SENTENCES[SendType.ONGOING]


def test_unknown_time_of_the_check_is_refused(console):
    answer = console.post(ADD, typed(SenderFactory(), ticket=ticket(console), checking="never"))

    assert "never is not one of the available choices" in answer.content.decode()
    assert not Message.objects.exists()


def test_filters_of_a_one_off_stay_locked(console):
    CustomerFactory()
    message = MessageFactory(in_app=True, one_off=True, live=True)
    console.post(f"/admin/messaging/message/{message.pk}/act/pause/")

    answer = console.get(f"/admin/messaging/message/{message.pk}/audience/", follow=True)

    assert "the filters" in answer.content.decode()
    assert answer.redirect_chain


@pytest.mark.parametrize(
    ("acts", "state", "logged"),
    [
        (["pause"], State.PAUSED, ["Paused"]),
        (["pause", "pause"], State.PAUSED, ["Paused"]),
        (["pause", "resume"], State.LIVE, ["Paused", "Resumed"]),
        (["pause", "resume", "resume"], State.LIVE, ["Paused", "Resumed"]),
        (["stop"], State.STOPPED, ["Stopped"]),
        (["stop", "stop", "resume", "pause"], State.STOPPED, ["Stopped"]),
        (["live", "rest", "unschedule"], State.LIVE, []),
    ],
)
def test_each_button_works_once_and_is_logged(console, acts, state, logged):
    message = MessageFactory(live=True)

    for act in acts:
        answer = console.post(f"/admin/messaging/message/{message.pk}/act/{act}/", follow=True)
        assert answer.status_code == 200

    assert Message.objects.get(pk=message.pk).state == state
    assert [said.partition(":")[0] for said in log()] == logged


def test_history_lists_past_actions(console, boss):
    message = MessageFactory(live=True)
    console.post(f"/admin/messaging/message/{message.pk}/act/pause/")

    history = console.get(f"/admin/messaging/message/{message.pk}/history/").content.decode()

    assert "Paused" in history
    assert boss.username in history


@pytest.mark.parametrize("act", ["act/pause", "act/live", "duplicate", "discard"])
def test_a_link_changes_nothing(console, act):
    message = MessageFactory(live=True)

    assert console.get(f"/admin/messaging/message/{message.pk}/{act}/").status_code == 303
    assert Message.objects.get().state == State.LIVE


def test_login_after_pressing_a_button_leads_back_to_its_page(client, boss):
    message = MessageFactory(live=True)
    boss.set_password("pass")
    boss.save()

    login = client.post(f"/admin/messaging/message/{message.pk}/act/pause/").url
    typed_in = {"username": boss.username, "password": "pass", "next": login.partition("next=")[2]}
    there = client.post(login, typed_in, follow=True)

    assert there.redirect_chain[-1][0] == f"/admin/messaging/message/{message.pk}/change/"
    assert "Nothing was done. Press the button again." in there.content.decode()
    assert Message.objects.get().state == State.LIVE


def test_every_post_needs_its_token(boss):
    console = Client(enforce_csrf_checks=True)
    console.force_login(boss)
    message = MessageFactory(live=True)

    assert console.post(f"/admin/messaging/message/{message.pk}/act/stop/").status_code == 403
    assert Message.objects.get().state == State.LIVE


def test_viewer_cannot_change_a_message(log_in_with):
    console = log_in_with("messaging.view_message")
    live, draft = MessageFactory(live=True), MessageFactory()

    assert console.get(message_page(live)).status_code == console.get(message_page(draft)).status_code == 200
    assert "/act/pause/" not in console.get(message_page(live)).content.decode()
    for address in (
        f"/admin/messaging/message/{live.pk}/act/stop/",
        f"/admin/messaging/message/{live.pk}/duplicate/",
        f"/admin/messaging/message/{draft.pk}/discard/",
        message_page(draft),
        ADD,
        FORECAST,
    ):
        assert console.post(address, {}).status_code == 403, address
    assert console.get(ADD).status_code == 403


def test_duplicates_as_a_draft_with_its_own_audience(console):
    message = MessageFactory(live=True, title="Welcome", rules=[rule("name", "is", "Ada")])

    console.post(f"/admin/messaging/message/{message.pk}/duplicate/")

    copy = Message.objects.exclude(pk=message.pk).get()
    assert (copy.title, copy.state, copy.send_type) == ("Welcome (copy)", State.DRAFT, message.send_type)
    assert copy.audience_id != message.audience_id
    assert copy.audience.rules == message.audience.rules
    assert copy.version.body == message.version.body


def test_discards_a_draft_with_all_that_was_its_own(console):
    draft = MessageFactory()

    console.post(f"/admin/messaging/message/{draft.pk}/discard/")

    assert not Message.objects.exists()
    assert not Audience.objects.exists()
    assert LogEntry.objects.filter(object_repr=draft.title).exists()


def test_message_that_was_live_cannot_be_discarded(console):
    message = MessageFactory(live=True)

    answer = console.post(f"/admin/messaging/message/{message.pk}/discard/", follow=True)

    assert "Only a draft can be deleted." in answer.content.decode()
    assert Message.objects.get() == message


@pytest.mark.parametrize("address", ["99999/change/", "99999/act/pause/", "nonsense/change/", "99999/content/"])
def test_a_message_that_is_not_there_is_a_404(console, address):
    for ask in (console.get, console.post):
        answer = ask(f"/admin/messaging/message/{address}")
        assert answer.status_code in (303, 404)
    assert console.post(f"/admin/messaging/message/{address}").status_code == 404


def test_the_report_adds_up(console):
    CustomerFactory(email="ada@acme.example")
    CustomerFactory(email="bob@acme.example", has_hard_bounced=True)
    CustomerFactory(email="eve@acme.example", unsubscribed_from_emails=True)
    message = MessageFactory(one_off=True, live=True, at=timezone.now())

    shown = console.get(message_page(message)).context["statuses"]

    assert shown["sums"] == "1 waiting + 2 skipped"
    assert (shown["records"], shown["people"]) == (3, 3)
    skipped = next(row for row in shown["rows"] if row["status"] == Status.SKIPPED)
    assert {reason["words"] for reason in skipped["reasons"]} == {"Their email bounced", "Unsubscribed from emails"}


def workspace_zone(name: str) -> None:
    workspace = Workspace.current()
    workspace.zone = name
    workspace.save()


def reviewed(console, form) -> dict[str, str]:
    """Return the counts that the final sheet would post."""
    drawn = console.post(SHEET, form).content.decode()
    return {name: re.search(rf'name="{name}" value="(\d+)"', drawn)[1] for name in ("reviewed", "receiving")}


def test_an_audience_that_drifted_since_the_page_counted_is_refused_with_both_numbers(console):
    for n in range(10):
        CustomerFactory(email=f"{n}@acme.example")
    form = typed(SenderFactory(), ticket=ticket(console), act="live", send_type="one_off")
    form |= reviewed(console, form)
    CustomerFactory(email="one@more.example")

    answer = console.post(ADD, form)

    assert "10 people matched at the review, 11 match now." in answer.content.decode()
    assert not Message.objects.exists()
    console.post(ADD, {**form, "reviewed": "11", "receiving": "11"})
    assert Message.objects.get().state == State.LIVE


def test_above_the_limit_sending_to_the_rest_asks_for_the_number(console):
    Workspace.current()
    Workspace.objects.update(confirm_above=2)
    for n in range(5):
        CustomerFactory(email=f"{n}@acme.example")
    message = MessageFactory(one_off=True)
    launch.launch(message, at=timezone.now(), sample=1)
    rest = f"/admin/messaging/message/{message.pk}/act/rest/"

    asked = console.post(rest)
    assert "type the number of people it goes to: <strong>4</strong>" in asked.content.decode()
    assert confirm.UNCONFIRMED in console.post(rest, {"confirm": "3", "reviewed": "4"}).content.decode()
    assert Message.objects.get().state == State.SAMPLED
    console.post(rest, {"confirm": "4", "reviewed": "4", "receiving": "4"})

    assert Message.objects.get().state == State.LIVE
    assert DeliveryRecord.objects.count() == 5


def test_a_large_launch_is_requested_and_completed_by_a_worker_or_the_sweep(console, monkeypatch):
    monkeypatch.setattr(launch_job, "LAUNCH_IN_REQUEST_LIMIT", 1)
    for n in range(3):
        CustomerFactory(email=f"{n}@acme.example")
    console.post(ADD, typed(SenderFactory(), ticket=ticket(console), act="live", send_type="one_off"))
    message = Message.objects.get()
    assert (message.state, DeliveryRecord.objects.count()) == (State.DRAFT, 0)
    assert "Going live" in console.get(message_page(message)).content.decode()
    monkeypatch.setattr(launch, "insert_one_off_records", dies)
    sweep.sweep(at=timezone.now())
    assert Message.objects.get().launching_at is not None
    monkeypatch.undo()

    sweep.sweep(at=timezone.now())

    message.refresh_from_db()
    assert (message.state, message.launching_at, DeliveryRecord.objects.count()) == (State.LIVE, None, 3)
    asked = console.get(f"/admin/messaging/message/{message.pk}/launching/")
    assert asked["HX-Redirect"] == message_page(message)


def test_polling_a_large_launch_continues_after_a_failed_request_and_announces_its_heading_once(console):
    message = MessageFactory(one_off=True)
    launch_job.request_launch(message, at=timezone.now())

    shown = console.get(f"/admin/messaging/message/{message.pk}/launching/").content.decode()
    looks = shown[shown.index('<div id="launching"') :]

    assert 'hx-trigger="every 1s"' in looks
    assert 'hx-select="#launching"' in looks
    assert '<span role="status">Going live</span>' in shown
    assert "status" not in looks


def dies(*_args, **_kwargs) -> None:
    raise ConnectionError("the server went away")


def test_failed_large_launch_stays_a_draft_with_the_reason(console):
    CustomerFactory(email="ada@acme.example")
    message = MessageFactory(one_off=True, rules=[rule("email", "contains", "@acme")])
    launch_job.request_launch(message, at=timezone.now())
    Customer.objects.update(archived_at=timezone.now())

    launch_job.launch(message.pk, at=timezone.now())

    message.refresh_from_db()
    assert (message.state, message.launching_at) == (State.DRAFT, None)
    assert "No customer matches right now" in console.get(message_page(message)).content.decode()


def test_large_launch_can_be_cancelled_before_a_worker_starts_it(console):
    CustomerFactory(email="ada@acme.example")
    message = MessageFactory(one_off=True)
    launch_job.request_launch(message, at=timezone.now())
    assert "call-off" in console.get(message_page(message)).content.decode()

    console.post(f"/admin/messaging/message/{message.pk}/act/call-off/")

    message.refresh_from_db()
    assert (message.state, message.launching_at, log()[-1]) == (State.DRAFT, None, "Cancelled the launch")
    sweep.sweep(at=timezone.now())
    assert DeliveryRecord.objects.count() == 0
    assert "Set live" in console.get(message_page(message)).content.decode()


def test_cancelling_a_launch_again_or_too_late_is_refused(console):
    CustomerFactory(email="ada@acme.example")
    message = MessageFactory(one_off=True)
    launch_job.request_launch(message, at=timezone.now())
    launch_job.launch(message.pk, at=timezone.now())

    answer = console.post(f"/admin/messaging/message/{message.pk}/act/call-off/", follow=True)

    message.refresh_from_db()
    assert message.state == State.LIVE
    assert "can no longer be cancelled" in answer.content.decode()
    assert "Cancelled the launch" not in log()


def test_cancelling_the_rest_of_a_sample_keeps_the_sample(console):
    for n in range(3):
        CustomerFactory(email=f"{n}@acme.example")
    message = MessageFactory(one_off=True)
    launch.launch(message, at=timezone.now(), sample=1)
    launch_job.request_launch(message, at=timezone.now())
    shown = console.get(message_page(message)).content.decode()
    assert "act/call-off/" in shown
    assert "act/pause/" in shown
    assert "act/rest/" not in shown

    console.post(f"/admin/messaging/message/{message.pk}/act/call-off/")

    message.refresh_from_db()
    assert (message.state, message.launching_at, DeliveryRecord.objects.count()) == (State.SAMPLED, None, 1)


def test_cancelling_a_launch_needs_the_permission_to_set_live(log_in_with):
    message = MessageFactory(one_off=True)
    launch_job.request_launch(message, at=timezone.now())
    author = log_in_with("messaging.view_message", "messaging.change_message")

    assert "act/call-off/" not in author.get(message_page(message)).content.decode()
    assert author.post(f"/admin/messaging/message/{message.pk}/act/call-off/").status_code == 403
    assert Message.objects.get().launching_at is not None


def test_ongoing_copy_of_a_sample_leaves_out_its_recipients(console):
    people = [CustomerFactory(user_id=str(n), email=f"{n}@acme.example") for n in range(6)]
    message = MessageFactory(one_off=True, rules={"match": "any", "rules": [rule("email", "contains", "@acme")]})
    launch.launch(message, at=timezone.now(), sample=4)
    records = list(DeliveryRecord.objects.order_by("pk"))
    for record, status in zip(records, ("waiting", "sending", "uncertain", "sent"), strict=True):
        force(record, status)

    console.post(f"/admin/messaging/message/{message.pk}/ongoing/")

    copy = Message.objects.exclude(pk=message.pk).get()
    assert (copy.state, copy.send_type, copy.version.body) == (State.DRAFT, "ongoing", message.version.body)
    got = {record.customer_id for record in records}
    matched = compiler.matching_customers(copy.audience.rules, at=timezone.now())
    assert {one.pk for one in matched} == {one.pk for one in people} - got


def force(record: DeliveryRecord, status: str) -> None:
    """Bring a record to a status through the allowed transitions."""
    one = DeliveryRecord.objects.filter(pk=record.pk)
    if status != "waiting":
        one.mark_sending(claim=uuid.uuid4(), until=timezone.now())
    if status == "uncertain":
        one.mark_uncertain(reason="lost_touch", detail="")
    if status == "sent":
        mark_records_sent(one, at=timezone.now())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.png", b"<svg onload=alert(1)>", "That file is not an image."),
        ("a.png", b"GIF89a" + b"0" * (5 * 1024 * 1024), "larger than 5 MB"),
    ],
)
def test_upload_that_is_not_an_image_or_too_large_is_refused(console, name, content, says, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path

    answer = console.post("/admin/messaging/message/pictures/", {"file": SimpleUploadedFile(name, content)})

    assert answer.status_code == 400
    assert says in answer.json()["wrong"]
    assert not list(tmp_path.iterdir())


def test_a_branded_email_keeps_the_layout_of_its_launch(console):
    Workspace.current()
    Workspace.objects.update(name="Acme {{ x }}", postal_address="1 Main Street\nDublin", colour="#aa0000")
    customer = CustomerFactory(email="ada@acme.example")
    message = MessageFactory(one_off=True, style="branded", live=True)
    Workspace.objects.update(name="Other", postal_address="Elsewhere", colour="#00aa00")
    record = DeliveryRecord.objects.get(customer=customer)

    version = Message.objects.get(pk=message.pk).version
    read = rendering.copy_of(version, channel="email").render({}, record_id=record.pk)

    assert "1 Main Street Dublin" in read.html
    assert "#aa0000" in read.html
    assert "Acme" in read.html
    assert rendering.unsubscribe_url(record.pk) in read.html
    assert rendering.unsubscribe_url(record.pk) in read.text


@pytest.mark.parametrize("address", ["preview/", "test/", "pictures/", "segment/", "people/", "values/"])
def test_composer_pages_need_a_login(log_in_with, address):
    viewer = log_in_with("messaging.view_message")

    assert viewer.post(f"/admin/messaging/message/{address}").status_code == 403


def test_previews_as_the_customer_and_company_that_were_chosen(console):
    grace = CustomerFactory(name="Grace Hopper", email="grace@navy.example", phone="")
    navy = MembershipFactory(customer=grace, company__name="Navy").company
    other = MembershipFactory(customer=grace, company__name="Yale").company
    CustomerFactory(name="Newest")
    form = typed(SenderFactory(), body="<p>{{ first_name }} of {{ company.name }}: {{ phone }}</p>")

    for company in (navy, other):
        shown = console.post(
            "/admin/messaging/message/preview/", {**form, "as_customer": grace.pk, "as_company": company.pk}
        )
        assert shown.status_code == 200
        assert f"Grace of {company.name}: <mark>phone</mark>" in shown.context["preview"].page


def test_values_complete_from_customers_data(console):
    CustomerFactory(country="Ireland")

    found = console.get("/admin/messaging/message/values/?attribute=country&q=ire").json()

    assert found == {"values": ["Ireland"]}

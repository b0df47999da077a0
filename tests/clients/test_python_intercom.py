"""The official Python client 3.1.0, unmodified except for its base URL, over a real socket (docs/wire.md)."""

import calendar
from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.utils import timezone
from intercom import errors
from intercom.client import Client

from audiences.models import Customer, Event, Integration, Job, Note, Subscription, Workspace
from delivery import tasks
from delivery.visits import visit
from messaging.models import Message
from tests.factories import CompanyFactory, CustomerFactory, MembershipFactory, MessageFactory, SegmentFactory, rule

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(autouse=True)
def no_limit(settings) -> None:
    settings.API_RATE_LIMIT = 0
    Workspace.current()


@pytest.fixture
def intercom(live_server) -> Iterator[Client]:
    made = client(live_server, token=Integration.issue(name="The shop")[1])
    yield made
    made.http_session.close()


def client(live_server, *, token: str) -> Client:
    made = Client(personal_access_token=token)
    made.base_url = f"{live_server.url}/api"
    return made


@pytest.fixture
def ada(django_user_model):
    return django_user_model.objects.create(
        username="ada", email="ada@acme.example", first_name="Ada", last_name="Byron", is_staff=True
    )


def process_bulk_jobs() -> None:
    """Process bulk jobs as the worker does."""
    tasks.work_off_jobs()


class TestUsers:
    def test_created_found_saved_and_deleted(self, intercom):
        made = intercom.users.create(email="Bob@Example.com", user_id=25, name="Bob", signed_up_at=1392731331)
        assert (made.email, made.user_id, made.signed_up_at.year) == ("bob@example.com", "25", 2014)
        assert intercom.users.find(user_id="25").id == made.id
        assert intercom.users.find(email="bob@example.com").id == made.id
        found = intercom.users.find(id=made.id)
        found.name = "Bobby"
        found.custom_attributes["karma"] = 5
        intercom.users.save(found)
        found.increment("karma")
        found.companies = [
            {"company_id": 6, "name": "Acme"},
            {"id": 9, "name": "Umbrella", "custom_attributes": {"a": 1}},
        ]
        saved = intercom.users.save(found)
        assert (saved.name, saved.custom_attributes) == ("Bobby", {"karma": 6})
        assert sorted(company.company_id for company in saved.companies) == ["6", "9"]
        assert intercom.users.load(saved).created_at.tzinfo is not None

        intercom.users.delete(saved)

        with pytest.raises(errors.ResourceNotFound, match=r"No such user_id\[25\]"):
            intercom.users.find(user_id="25")

    def test_user_with_an_attribute_that_cannot_be_stored_can_be_loaded_and_saved(self, intercom):
        intercom.users.create(user_id="25", custom_attributes={"seats": 5})
        made = intercom.users.create(user_id="26", name="Bob", custom_attributes={"seats": "many", "plan": "pro"})
        assert (made.name, made.custom_attributes) == ("Bob", {"plan": "pro"})
        assert made.warnings[0]["field"] == "seats"
        made.name = "Bobby"
        assert intercom.users.save(made).name == "Bobby"

    def test_all_users_are_listed_over_pages_and_by_scroll(self, intercom):
        for number in range(130):
            CustomerFactory(user_id=f"u{number}")

        assert len({user.user_id for user in intercom.users.all()}) == 130
        assert len({user.user_id for user in intercom.users.scroll()}) == 130

    def test_users_are_listed_by_tag_and_segment(self, intercom):
        for name in ("ann", "bob"):
            CustomerFactory(user_id=name, name=name)
        tag = intercom.tags.tag(name="blue", users=[{"user_id": "ann"}])
        segment = SegmentFactory(rules={"match": "all", "rules": [rule("name", "is", "bob")]})

        assert [user.user_id for user in intercom.users.by_tag(tag.id)] == ["ann"]
        assert [user.user_id for user in intercom.users.find_all(segment_id=segment.pk)] == ["bob"]


class TestCompanies:
    def test_company_is_created_found_saved_and_listed_with_its_users_and_by_tag(self, intercom):
        made = intercom.companies.create(
            company_id="6", name="Acme", plan="Paid", monthly_spend=49.9, remote_created_at=1392731331
        )
        assert (made.plan.name, made.monthly_spend) == ("Paid", 49)
        assert intercom.companies.find(company_id="6").id == made.id
        assert intercom.companies.find(name="Acme").id == made.id
        found = intercom.companies.find(id=made.id)
        found.name = "Acme & Sons"
        assert intercom.companies.save(found).name == "Acme & Sons"
        company = CompanyFactory(company_id="7")
        MembershipFactory(company=company, customer__user_id="ann")
        tag = intercom.tags.tag(name="big", companies=[{"company_id": "7"}])

        assert sorted(company.company_id for company in intercom.companies.all()) == ["6", "7"]
        assert [user.user_id for user in intercom.companies.users(company.pk)] == ["ann"]
        assert [company.company_id for company in intercom.companies.by_tag(tag.id)] == ["7"]


class TestEvents:
    def test_events_are_recorded_and_traversed(self, intercom):
        CustomerFactory(user_id="ann", email="ann@x.example")
        now = calendar.timegm(timezone.now().utctimetuple())
        for ago in range(60):
            rich = {
                "order_number": {"value": "3434", "url": "https://x.example/3434"},
                "price": {"currency": "usd", "amount": 5},
            }
            made = intercom.events.create(
                event_name="Ordered.Item", created_at=now - ago, email="ann@x.example", metadata=rich
            )
            assert made is None

        found = list(intercom.events.find_all(type="user", user_id="ann"))

        assert len(found) == 60
        assert found[0].event_name == "ordered-item"
        assert found[0].created_at > found[59].created_at

    def test_event_of_an_unknown_user_is_not_found(self, intercom):
        with pytest.raises(errors.ResourceNotFound):
            intercom.events.create(event_name="x", user_id="nobody")


class TestBulk:
    def test_users_are_created_and_deleted_and_failures_are_in_the_error_feed(self, intercom):
        CustomerFactory(user_id="old")
        job = intercom.users.submit_bulk_job(
            create_items=[{"user_id": 25, "email": "a@x.example"}, {"user_id": "26", "email": "nonsense"}],
            delete_items=[{"user_id": "old"}, {"user_id": "nobody"}],
        )
        assert (job.state, job.tasks[0]["item_count"], job.closing_at > job.created_at) == ("running", 4, True)
        intercom.users.submit_bulk_job(create_items=[{"user_id": "27"}], job_id=job.id)

        process_bulk_jobs()

        done = intercom.jobs.find(id=job.id)
        assert (done.state, len(done.tasks), done.completed_at is not None) == ("completed", 2, True)
        assert set(Customer.objects.present().values_list("user_id", flat=True)) == {"25", "27"}
        failed = intercom.jobs.errors(id=job.id).items
        assert [(item["data"]["user_id"], item["error"]["code"]) for item in failed] == [
            ("26", "parameter_invalid"),
            ("nobody", "not_found"),
        ]
        assert [job.id for job in intercom.jobs.all()] == [Job.objects.get().key]

    def test_events_are_recorded(self, intercom):
        CustomerFactory(user_id="ann")
        items = [{"event_name": f"step-{n}", "created_at": 1438944980, "user_id": "ann"} for n in range(100)]

        intercom.events.submit_bulk_job(create_items=items)
        process_bulk_jobs()

        assert Event.objects.count() == 100

    def test_unknown_job_is_not_found(self, intercom):
        with pytest.raises(errors.ResourceNotFound):
            intercom.jobs.find(id="job_nope")
        with pytest.raises(errors.ResourceNotFound):
            intercom.users.submit_bulk_job(create_items=[{"user_id": "1"}], job_id="job_nope")


class TestTagsAndSegments:
    def test_tags_are_created_renamed_added_removed_and_listed(self, intercom):
        for name in ("ann", "bob"):
            CustomerFactory(user_id=name)
        tag = intercom.tags.tag(name="blue", users=[{"user_id": "ann"}, {"user_id": "bob"}])
        intercom.tags.untag(name="Blue", users=[{"user_id": "bob"}])
        intercom.tags.create(id=tag.id, name="navy")

        assert [(found.id, found.name) for found in intercom.tags.all()] == [(tag.id, "navy")]
        assert [user.user_id for user in intercom.users.by_tag(tag.id)] == ["ann"]

    def test_segments_found_and_listed(self, intercom):
        segment = SegmentFactory(name="Everybody")
        CustomerFactory()

        assert intercom.segments.find(id=segment.pk).count == 1
        assert [found.name for found in intercom.segments.all()] == ["Everybody"]


class TestLeadsAndNotes:
    def test_leads_are_created_found_saved_converted_and_deleted(self, intercom):
        lead = intercom.leads.create(email="lead@x.example", name="Lee")
        lead.custom_attributes["foo"] = "bar"
        assert intercom.leads.save(lead).custom_attributes == {"foo": "bar"}
        assert intercom.leads.find(id=lead.id).user_id == lead.user_id
        assert intercom.leads.find(user_id=lead.user_id).id == lead.id
        assert [found.id for found in intercom.leads.find_all(email="lead@x.example")] == [lead.id]
        other = intercom.leads.create(name="Gone")
        assert len(list(intercom.leads.all())) == 2
        assert intercom.leads.load(other).name == "Gone"
        intercom.leads.delete(other)
        user = intercom.users.create(user_id="42", email="lee@x.example")

        intercom.leads.convert(lead, user)

        found = intercom.users.find(user_id="42")
        assert (found.name, found.custom_attributes) == ("Lee", {"foo": "bar"})
        assert list(intercom.leads.all()) == []

    def test_notes_written_found_and_listed(self, intercom, ada):
        CustomerFactory(user_id="ann", email="ann@x.example")
        made = intercom.notes.create(body="<p>Careful</p>", email="ann@x.example", admin_id=str(ada.pk))

        assert (intercom.notes.find(id=made.id).body, made.author.name) == ("<p>Careful</p>", "Ada Byron")
        assert [note.id for note in intercom.notes.find_all(user_id="ann")] == [str(Note.objects.get().pk)]
        assert intercom.notes.load(made).user.user_id == "ann"


class TestConversations:
    @pytest.fixture
    def begun(self, intercom):
        CustomerFactory(user_id="ann", email="ann@x.example")
        made = intercom.messages.create(**{"from": {"type": "user", "user_id": "ann"}, "body": "halp"})
        return intercom.conversations.find(id=made.conversation_id)

    def test_both_sides_reply_and_it_is_assigned_closed_opened_and_read(self, intercom, begun, ada):
        by = {"id": begun.id, "admin_id": str(ada.pk)}
        intercom.conversations.reply(
            id=begun.id, type="user", email="ann@x.example", message_type="comment", body="foo",
            attachment_urls=["http://www.example.com/attachment.jpg"],
        )  # fmt: skip
        intercom.conversations.reply(id=begun.id, type="admin", email=ada.email, message_type="comment", body="bar")
        intercom.conversations.reply(**by, type="admin", message_type="note", body="hm")
        assert intercom.conversations.assign(**by, assignee_id=str(ada.pk)).assignee.id == str(ada.pk)
        assert not intercom.conversations.close(**by).open
        assert intercom.conversations.open(**by).open
        assert intercom.conversations.mark_read(begun.id).read

        parts = intercom.conversations.find(id=begun.id).conversation_parts

        assert [part.part_type for part in parts] == ["comment", "comment", "note", "assignment", "close", "open"]
        assert parts[0].attachments[0]["url"] == "http://www.example.com/attachment.jpg"
        assert (parts[0].author.__class__.__name__, parts[1].author.__class__.__name__) == ("User", "Admin")
        assert parts[0].created_at.tzinfo is not None

    def test_found_by_user_and_by_admin(self, intercom, begun, ada):
        find_all = intercom.conversations.find_all
        assert [found.id for found in find_all(email="ann@x.example", type="user")] == [begun.id]
        assert [found.id for found in find_all(user_id="ann", type="user", unread=True)] == []
        intercom.conversations.reply(id=begun.id, type="admin", admin_id=str(ada.pk), message_type="comment", body="x")
        assert [found.id for found in find_all(user_id="ann", type="user", unread=True)] == [begun.id]
        intercom.conversations.assign(id=begun.id, admin_id=str(ada.pk), assignee_id=str(ada.pk))

        assert [found.id for found in find_all(type="admin", admin_id=ada.pk, open=True)] == [begun.id]
        assert [found.id for found in find_all(type="admin", admin_id=ada.pk, open=False)] == []
        assert intercom.users.load(begun.user).email == "ann@x.example"

    def test_conversations_are_traversed_over_pages_newest_first(self, intercom, begun):
        for number in range(45):
            intercom.messages.create(**{"from": {"type": "user", "user_id": "ann"}, "body": str(number)})

        found = list(intercom.conversations.find_all(type="user", user_id="ann"))

        assert len({conversation.id for conversation in found}) == 46
        assert found[-1].id == begun.id

    def test_listing_for_one_user_runs_matching(self, intercom):
        CustomerFactory(user_id="ann", email="ann@x.example")
        message = MessageFactory(live=True)

        list(intercom.conversations.find_all(type="user", user_id="ann"))

        assert message.records.count() == 1


class TestMessages:
    def test_teammate_sends_in_app_and_email_messages_to_a_user_and_a_lead(self, intercom, ada):
        customer = CustomerFactory(user_id="ann", email="ann@x.example")
        lead = intercom.leads.create(email="lee@x.example")
        by = {"body": "What's up :)", "from": {"type": "admin", "id": str(ada.pk)}}

        shown = intercom.messages.create(**by, message_type="inapp", to={"type": "user", "id": str(customer.pk)})
        mail = intercom.messages.create(
            **by, message_type="email", subject="Hey", template="plain", to={"type": "user", "user_id": "ann"}
        )
        to_lead = intercom.messages.create(**by, message_type="inapp", to={"type": "contact", "user_id": lead.user_id})

        assert (mail.subject, mail.owner.email) == ("Hey", "ada@acme.example")
        assert [f"msg_{pk}" for pk in Message.objects.order_by("pk").values_list("pk", flat=True)] == [
            shown.id,
            mail.id,
            to_lead.id,
        ]
        visit.visit(customer, at=timezone.now())
        [begun] = intercom.conversations.find_all(type="user", user_id="ann")
        assert begun.conversation_message.id == shown.id

    def test_email_without_a_subject_is_a_bad_request(self, intercom, ada):
        CustomerFactory(user_id="ann", email="ann@x.example")

        with pytest.raises(errors.BadRequestError, match="subject"):
            intercom.messages.create(
                message_type="email", body="x", to={"type": "user", "user_id": "ann"},
                **{"from": {"type": "admin", "id": str(ada.pk)}},
            )  # fmt: skip


class TestOtherEndpoints:
    def test_admins(self, intercom, ada):
        [admin] = intercom.admins.all()

        assert (admin.id, admin.email) == (str(ada.pk), "ada@acme.example")

    def test_counts(self, intercom, ada):
        CustomerFactory(user_id="ann")
        SegmentFactory(name="Everybody")
        made = intercom.messages.create(**{"from": {"type": "user", "user_id": "ann"}, "body": "halp"})
        intercom.conversations.assign(id=made.conversation_id, admin_id=str(ada.pk), assignee_id=str(ada.pk))

        assert intercom.counts.for_app().user == {"count": 1}
        assert intercom.counts.for_type(type="user", count="segment").user == {"segment": [{"Everybody": 1}]}
        conversations = intercom.counts.for_type(type="conversation").conversation
        assert conversations == {"assigned": 1, "unassigned": 0, "open": 1, "closed": 0}
        [by_admin] = intercom.counts.for_type(type="conversation", count="admin").conversation["admin"]
        assert by_admin == {"id": str(ada.pk), "name": "Ada Byron", "open": 1, "closed": 0}

    def test_subscriptions_are_created_found_saved_listed_and_deleted(self, intercom):
        made = intercom.subscriptions.create(url="https://hooks.example/", topics=["user.created"])
        assert made.id.startswith("nsub_")
        assert Subscription.objects.get().secret == made.hub_secret
        found = intercom.subscriptions.find(id=made.id)
        found.topics = ["user.created", "ping"]
        assert intercom.subscriptions.save(found).topics == ["user.created", "ping"]
        assert [one.id for one in intercom.subscriptions.all()] == [made.id]

        intercom.subscriptions.delete(found)

        assert list(intercom.subscriptions.all()) == []

    def test_rate_limit_is_in_headers_and_has_its_own_exception(self, intercom, settings, time_machine, at):
        settings.API_RATE_LIMIT = 18
        cache.clear()
        time_machine.move_to(at, tick=False)
        for _ in range(3):
            list(intercom.admins.all())
        assert (intercom.rate_limit_details["limit"], intercom.rate_limit_details["remaining"]) == (3, 0)

        with pytest.raises(errors.RateLimitExceeded):
            list(intercom.admins.all())

    def test_wrong_token_is_an_authentication_error(self, live_server):
        with pytest.raises(errors.AuthenticationError):
            list(client(live_server, token="nonsense-nonsense").admins.all())

    def test_ambiguous_request_has_its_own_conflict_exception(self, intercom):
        one = CustomerFactory(user_id="1")
        CustomerFactory(user_id="2")

        with pytest.raises(errors.MultipleMatchingUsersError):
            intercom.users.create(id=str(one.pk), user_id="2")

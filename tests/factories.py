"""Factories, one section per app. Each creates a minimal row; a test names only the facts it is about."""

from datetime import UTC, datetime

import factory
from factory.django import DjangoModelFactory

from audiences.models import (
    Audience,
    Company,
    CompanyTag,
    CustomAttribute,
    Customer,
    CustomerTag,
    Event,
    EventSummary,
    Membership,
    MessageTopic,
    Tag,
    TopicOptOut,
)
from audiences.models.catalogue import Scope
from audiences.models.customers import Role
from delivery.matching import launch
from messaging import authoring
from messaging.models import Message, Sender

# The time of the fixture `at`, and the default time of creation.
AT = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)

# audiences


class CustomerFactory(DjangoModelFactory):
    """A user with only a user_id; lead=True, archived=True."""

    class Meta:
        model = Customer

    class Params:
        lead = factory.Trait(role=Role.LEAD, user_id=None)
        archived = factory.Trait(archived_at=AT)

    user_id = factory.Sequence(lambda n: f"user-{n}")
    created_at = AT
    updated_at = AT


class CompanyFactory(DjangoModelFactory):
    """A company with only a company_id; archived=True."""

    class Meta:
        model = Company

    class Params:
        archived = factory.Trait(archived_at=AT)

    company_id = factory.Sequence(lambda n: f"company-{n}")
    created_at = AT
    updated_at = AT


class MembershipFactory(DjangoModelFactory):
    """A customer in a company; MembershipFactory(company__plan="pro") creates both."""

    class Meta:
        model = Membership

    customer = factory.SubFactory(CustomerFactory)
    company = factory.SubFactory(CompanyFactory)
    created_at = AT


class TagFactory(DjangoModelFactory):
    """A tag without customers or companies."""

    class Meta:
        model = Tag

    name = factory.Sequence(lambda n: f"tag {n}")
    created_at = AT


class CustomerTagFactory(DjangoModelFactory):
    """A tag on a customer."""

    class Meta:
        model = CustomerTag

    customer = factory.SubFactory(CustomerFactory)
    tag = factory.SubFactory(TagFactory)
    created_at = AT


class CompanyTagFactory(DjangoModelFactory):
    """A tag on a company."""

    class Meta:
        model = CompanyTag

    company = factory.SubFactory(CompanyFactory)
    tag = factory.SubFactory(TagFactory)
    created_at = AT


class TopicFactory(DjangoModelFactory):
    """A topic of messages, in use."""

    class Meta:
        model = MessageTopic

    name = factory.Sequence(lambda n: f"topic {n}")


class TopicOptOutFactory(DjangoModelFactory):
    """A customer's own opt-out of a topic."""

    class Meta:
        model = TopicOptOut

    customer = factory.SubFactory(CustomerFactory)
    topic = factory.SubFactory(TopicFactory)
    source = "customer"
    created_at = AT


class EventFactory(DjangoModelFactory):
    """An event without its summary, which intake would update."""

    class Meta:
        model = Event

    customer = factory.SubFactory(CustomerFactory)
    name = "ordered"
    happened_at = AT


class EventSummaryFactory(DjangoModelFactory):
    """The summary of an event that happened once, at AT."""

    class Meta:
        model = EventSummary

    customer = factory.SubFactory(CustomerFactory)
    name = "ordered"
    count = 1
    first_at = AT
    last_at = factory.SelfAttribute("first_at")


class CustomAttributeFactory(DjangoModelFactory):
    """A custom attribute of customers, of kind text."""

    class Meta:
        model = CustomAttribute

    scope = Scope.CUSTOMER
    name = factory.Sequence(lambda n: f"attribute {n}")
    kind = "text"
    created_at = AT


class AudienceFactory(DjangoModelFactory):
    """An audience of a message, without rules: everyone."""

    class Meta:
        model = Audience


class SegmentFactory(AudienceFactory):
    """A segment, without rules: everyone."""

    name = factory.Sequence(lambda n: f"segment {n}")


# messaging


class SenderFactory(DjangoModelFactory):
    """Ada of Acme, a sender for all teammates."""

    class Meta:
        model = Sender

    name = "Ada"
    email = "ada@acme.example"


class MessageFactory(DjangoModelFactory):
    """A draft of an ongoing email to everyone.

    Give `subject`, `body` and `rules` (a list, joined by and); `live=True` sets it live at `at`, through launch.
    In-app: `channel="in_app"`.
    """

    class Meta:
        model = Message
        skip_postgeneration_save = True

    class Params:
        in_app = factory.Trait(channel="in_app", format="chat")
        one_off = factory.Trait(send_type="one_off")

    title = factory.Sequence(lambda n: f"Message {n}")
    sender = factory.SubFactory(SenderFactory)
    audience = factory.SubFactory(AudienceFactory)

    @classmethod
    def _create(cls, model_class, *args, **kwargs):
        at = kwargs.pop("at", AT)
        live = kwargs.pop("live", False)
        text = {"subject": kwargs.pop("subject", "Hello"), "body": kwargs.pop("body", "<p>Hello there</p>")}
        rules = kwargs.pop("rules", None)
        if kwargs.get("to_customer"):
            kwargs |= {"audience": None, "send_type": "one_off"}
        message = super()._create(model_class, *args, **kwargs)
        if rules is not None:
            authoring.change_audience(
                message, rules=rules if isinstance(rules, dict) else {"match": "all", "rules": rules}, by=None, at=at
            )
        authoring.revise(message, **text, by=None, at=at)
        if live:
            launch.launch(message, at=at)
        return message


def rule(attribute: str, operator: str, value: object = None) -> dict[str, object]:
    """Return a rule in its stored form."""
    return {"attribute": attribute, "operator": operator, "value": value}

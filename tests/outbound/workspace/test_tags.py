"""Tags in the console. A tag that a rule uses cannot be deleted."""

import pytest
from django.urls import reverse

from audiences.models import Tag
from tests.factories import CustomerTagFactory, MessageFactory, SegmentFactory, TagFactory, rule

pytestmark = pytest.mark.django_db
LIST = reverse("admin:audiences_tag_changelist")


def delete(console, *tags: Tag):
    """Delete tags with the confirmed action of the list."""
    asked = {"action": "delete_selected", "_selected_action": [tag.pk for tag in tags], "post": "yes"}
    return console.post(LIST, asked)


def test_tag_used_by_a_message_or_segment_cannot_be_deleted(console):
    asked, of_companies, free = CustomerTagFactory().tag, TagFactory(), CustomerTagFactory().tag
    MessageFactory(live=True, title="To the rest", rules=[rule("tag", "is_not", asked.pk)])
    SegmentFactory(name="Big ones", rules={"match": "all", "rules": [rule("company.tag", "is", of_companies.pk)]})

    page = console.post(reverse("admin:audiences_tag_delete", args=[asked.pk]), {"post": "yes"}).content.decode()
    delete(console, asked, of_companies)

    assert "To the rest" in page
    assert set(Tag.objects.all()) == {asked, of_companies, free}


def test_unused_tag_is_deleted(console):
    one, other, third = CustomerTagFactory().tag, TagFactory(), TagFactory()

    delete(console, one, other)
    console.post(reverse("admin:audiences_tag_delete", args=[third.pk]), {"post": "yes"})

    assert not Tag.objects.exists()

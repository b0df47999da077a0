"""Audiences are validated when saved: rules, references to tags and segments, circular segments, limits."""

from itertools import pairwise
from threading import Barrier, Thread
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audiences import compiler, segment_copies
from audiences.models import Audience
from audiences.models.audience import MAX_SEGMENT_DEPTH
from audiences.rules import RuleError
from tests.factories import AudienceFactory, SegmentFactory, TagFactory


def naming(*segments: Audience, operator: str = "is", attribute: str = "segment") -> dict[str, Any]:
    return {"rules": [{"attribute": attribute, "operator": operator, "value": segment.pk} for segment in segments]}


def chain(length: int) -> Audience:
    """Return a segment at the top of a chain of `length` nested segments."""
    segment = SegmentFactory()
    for _ in range(length - 1):
        segment = SegmentFactory(rules=naming(segment))
    return segment


@pytest.mark.django_db
def test_invalid_rules_are_refused_when_saved() -> None:
    with pytest.raises(ValidationError, match="Rule 1: there is no attribute “shoe_size”"):
        AudienceFactory(rules={"rules": [{"attribute": "shoe_size", "operator": "is", "value": 42}]})
    assert not Audience.objects.exists()


@pytest.mark.django_db
def test_rules_are_stored_normalized() -> None:
    audience = AudienceFactory(rules={"rules": [{"attribute": "session_count", "operator": "is", "value": " 3 "}]})
    audience.refresh_from_db()
    assert audience.rules == {
        "match": "all",
        "rules": [{"attribute": "session_count", "operator": "is", "value": 3}],
    }


@pytest.mark.django_db
@pytest.mark.parametrize("attribute", ["tag", "company.tag", "segment", "company.segment"])
def test_a_rule_cannot_use_a_missing_tag_or_segment(attribute: str) -> None:
    label = {"tag": "Tag", "company.tag": "Company tag", "segment": "Segment", "company.segment": "Company segment"}
    gone = TagFactory() if "tag" in attribute else SegmentFactory()
    rules = naming(gone, attribute=attribute, operator="is_not")
    AudienceFactory(rules=rules)
    gone_as = gone.pk
    gone.delete()
    with pytest.raises(ValidationError) as refused:
        AudienceFactory(rules=rules)
    what = attribute.removeprefix("company.")
    assert refused.value.messages == [
        f"The rule “{label[attribute]} is not” uses a {what} that does not exist ({gone_as})."
    ]


@pytest.mark.django_db
def test_an_audience_without_a_name_is_not_a_segment() -> None:
    with pytest.raises(ValidationError, match="uses a segment that does not exist"):
        AudienceFactory(rules=naming(AudienceFactory()))


@pytest.mark.django_db
@pytest.mark.parametrize("operator", ["is", "is_not"])
@pytest.mark.parametrize("attribute", ["segment", "company.segment"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_segment_is_never_a_part_of_itself(attribute: str, operator: str, length: int) -> None:
    first = SegmentFactory()
    last = first
    for _ in range(length - 1):
        last = SegmentFactory(rules=naming(last, attribute=attribute, operator=operator))
    first.rules = naming(SegmentFactory(), last, attribute=attribute, operator=operator)
    with pytest.raises(ValidationError, match="A segment cannot be a part of itself"):
        first.save()


@pytest.mark.django_db
def test_two_paths_to_the_same_segment_are_not_circular() -> None:
    bottom = SegmentFactory()
    sides = [SegmentFactory(rules=naming(bottom)), SegmentFactory(rules=naming(bottom))]
    assert AudienceFactory(rules=naming(bottom, *sides)).pk


@pytest.mark.django_db
def test_nesting_of_segments_is_limited_and_a_saved_audience_can_be_saved_again() -> None:
    audience = AudienceFactory(rules=naming(chain(MAX_SEGMENT_DEPTH)))
    audience.save()
    with pytest.raises(ValidationError, match="Segments can be nested at most 8 levels deep"):
        AudienceFactory(rules=naming(chain(MAX_SEGMENT_DEPTH + 1)))


@pytest.mark.django_db
def test_each_segment_is_read_once_for_any_number_of_paths_to_it() -> None:
    layer: list[Audience] = []
    for _ in range(MAX_SEGMENT_DEPTH - 1):
        layer = [SegmentFactory(rules=naming(*layer)) for _ in range(2)]
    with CaptureQueriesContext(connection) as asked:
        AudienceFactory(rules=naming(*layer))
    assert len(asked) < 70  # Of some 250 ways through 14 segments.


@pytest.fixture
def grown(db) -> Audience:
    """A segment of 1,000,000 rules in six layers of ten, made with updates that skip validation."""
    segment = SegmentFactory(name="Top")
    layers = [SegmentFactory(name=f"Layer {n}") for n in range(5)]
    for above, below in pairwise([segment, *layers]):
        Audience.objects.filter(pk=above.pk).update(rules=naming(*[below] * 10))
    ten = [{"attribute": "name", "operator": "is", "value": str(n)} for n in range(10)]
    Audience.objects.filter(pk=layers[-1].pk).update(rules={"rules": ten})
    return segment


TOO_MANY = (
    "Rule 2.1, “Segment is Top”: this segment has over 1,000,000 rules, including the segments it uses."
    " An audience can have at most 400 rules, including those of its segments."
)


def test_rules_of_nested_segments_count_towards_the_limit(grown: Audience) -> None:
    rules = {"rules": [{"attribute": "name", "operator": "is", "value": "Ada"}, naming(grown)]}

    with pytest.raises(ValidationError) as refused:
        AudienceFactory(rules=rules)
    assert refused.value.messages == [TOO_MANY]
    # The compiler refuses them too, in case a segment grew after they were saved.
    with pytest.raises(RuleError) as stopped:
        compiler.matching_customers(rules, at=timezone.now())
    assert str(stopped.value) == TOO_MANY


@pytest.mark.django_db
@pytest.mark.parametrize("attribute", ["segment", "company.segment"])
def test_a_saved_audience_is_within_the_limit_after_its_segments_are_copied_in(attribute: str) -> None:
    hundred = [{"attribute": "name", "operator": "is", "value": str(n)} for n in range(99)]
    segments = [SegmentFactory(rules={"rules": hundred}) for _ in range(4)]
    audience = AudienceFactory(rules=naming(*segments, attribute=attribute))

    audience.rules = segment_copies.freeze(audience.tree, on=timezone.now().date()).as_json()
    audience.save()

    assert audience.tree.size() in (396, 400)


@pytest.mark.django_db
def test_number_of_joined_events_is_limited() -> None:
    def asking(events: int, *, to: str = "event_count.e{}") -> dict[str, Any]:
        return {"rules": [{"attribute": to.format(n), "operator": "greater_than", "value": 1} for n in range(events)]}

    half = SegmentFactory(rules=asking(30))
    assert AudienceFactory(rules=asking(50)).pk
    with pytest.raises(ValidationError, match="use the counts or dates of 60 different events"):
        AudienceFactory(rules={"rules": [*asking(30, to="event_count.f{}")["rules"], *naming(half)["rules"]]})


@pytest.mark.django_db(transaction=True)
def test_two_concurrent_saves_cannot_make_segments_circular() -> None:
    for _ in range(5):
        one, other = SegmentFactory(), SegmentFactory()
        start, refused = Barrier(2), []

        def name(segment: Audience, named: Audience, start: Barrier = start, refused: list = refused) -> None:
            segment.rules = naming(named)
            start.wait()
            try:
                segment.save()
            except ValidationError as wrong:
                refused.append(wrong)
            finally:
                connection.close()

        threads = [Thread(target=name, args=pair) for pair in ((one, other), (other, one))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refused) == 1
        assert "part of itself" in refused[0].messages[0]

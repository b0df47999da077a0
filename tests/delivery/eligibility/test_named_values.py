"""Kept values whose attribute has another kind now."""

import pytest

from audiences.rules import Kind
from delivery.eligibility import named_values


@pytest.mark.parametrize(
    ("text", "kind"), [("pro", Kind.NUMBER), ("pro", Kind.DATE), ("12", Kind.DATE), ("1.5", Kind.TEAMMATE)]
)
def test_value_that_is_none_of_the_new_kind_is_shown_as_text(text, kind):
    assert named_values.read_value(text, kind=kind) == text

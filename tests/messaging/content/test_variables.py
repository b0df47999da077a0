"""Variables in texts."""

import pytest

from messaging import content

FACTS = {"name": "Ada Byron", "custom_attributes": {"plan": "pro"}, "company": None}


@pytest.mark.parametrize(
    ("line", "for_all", "for_ada"),
    [
        ("Hello", "Hello", "Hello"),
        ("Hi {{ first_name }}", "Hi [first name]", "Hi Ada"),
        ("{{ custom_attributes.plan | upcase }}!", "[PLAN]!", "PRO!"),
        ("For {{ company.name | default: 'you' }}", "For [name]", "For you"),
        ("{% if custom_attributes.plan == 'pro' %}Pro {% endif %}news", "news", "Pro news"),
        ("50 % {{ off", "50 % {{ off", "50 % {{ off"),
    ],
)
def test_line_for_a_list_shows_no_liquid(line, for_all, for_ada):
    assert content.fill_in(line) == for_all
    assert content.fill_in(line, FACTS) == for_ada

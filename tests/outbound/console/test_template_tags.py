"""Template tags and filters of the console."""

import pytest

from outbound.templatetags import console


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("ada@acme.example", "ada@acme.example"),
        ("ada.byron+news@mail.acme.example", "ada<wbr>.byron<wbr>+news<wbr>@mail<wbr>.acme<wbr>.example"),
        ("A sentence with many words, none of them long", "A sentence with many words, none of them long"),
        ("<b>ada.byron@mail.acme.example", "&lt;b&gt;ada<wbr>.byron<wbr>@mail<wbr>.acme<wbr>.example"),
        (17, 17),
    ],
)
def test_long_word_breaks_before_its_signs(value, shown):
    assert console.breakable(value) == shown

"""Identity resolution: two spellings of one address are the same."""

import pytest

from audiences.intake.identity_resolution import is_same_address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("pat@bücher.example", "pat@xn--bcher-kva.example", True),
        ("Pat@BÜCHER.example", "pat@xn--bcher-kva.example", True),
        ("pat@bu\u0308cher.example", "pat@bücher.example", True),
        ("pat@straße.example", "pat@xn--strae-oqa.example", True),
        ("pat@straße.example", "pat@strasse.example", False),
        ("pat@x.example.", "pat@x.example", True),
        (" PAT@x.example ", "pat@x.example", True),
        ("pat@b\u00fccher\u3002example", "pat@xn--bcher-kva\uff0eexample", True),
        ("pat@xn--fiqs8s.example", "pat@中国.example", True),
        ("pat@x.example", "pat@y.example", False),
        ("pat@xn--.example", "pat@xn--99999.example", False),
        ("\u212aim@x.example", "kim@x.example", False),
        (f"pat@xn--{'a' * 100_000}.example", "pat@x.example", False),
    ],
)
def test_addresses_are_compared_in_one_form(one, other, same):
    assert is_same_address(one, other) is same

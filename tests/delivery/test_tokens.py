"""Tokens in links: opaque, without expiry, and valid after a change of the key."""

import pytest

from delivery import tokens


@pytest.mark.parametrize("numbers", [(1,), (2**63 - 1,), (7, 8), (0, 0, 0, 0)])
def test_a_token_returns_its_numbers(numbers):
    token = tokens.make_token(*numbers, purpose="unsubscribe")

    assert tokens.read_token(token, purpose="unsubscribe", numbers=len(numbers)) == numbers
    assert token == tokens.make_token(*numbers, purpose="unsubscribe")


def test_token_is_opaque():
    made = [tokens.make_token(number, purpose="unsubscribe") for number in range(50)]

    # Neither the number nor that two of them are neighbours: no place has the same letter in even half of them.
    assert all(max(map(column.count, column)) < 12 for column in zip(*made, strict=True))
    assert {len(token) for token in made} == {32}


def test_a_token_is_invalid_for_another_purpose_or_another_length():
    token = tokens.make_token(7, purpose="unsubscribe")

    assert tokens.read_token(token, purpose="tracking", numbers=1) is None
    assert tokens.read_token(token, purpose="unsubscribe", numbers=2) is None


def test_a_changed_letter_makes_it_a_stranger():
    token = tokens.make_token(7, purpose="unsubscribe")

    for place in range(len(token)):
        forged = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert tokens.read_token(forged, purpose="unsubscribe", numbers=1) is None


@pytest.mark.parametrize(
    "text", ["", "7", "7:signature", "é" * 32, "A" * 32, "A" * 100_000, "../../etc/passwd", "\x00"]
)
def test_other_text_is_not_a_token(text):
    assert tokens.read_token(text, purpose="unsubscribe", numbers=1) is None


def test_a_token_outlives_the_key_it_was_made_with(settings):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "old", []
    token = tokens.make_token(7, purpose="unsubscribe")

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["older", "old"]
    assert tokens.read_token(token, purpose="unsubscribe", numbers=1) == (7,)
    assert tokens.make_token(7, purpose="unsubscribe") != token

    settings.SECRET_KEY_FALLBACKS = []
    assert tokens.read_token(token, purpose="unsubscribe", numbers=1) is None

"""The two formats of tokens: version 0.2 reads both and writes the old one; version 0.3 writes the new one.

The old values are fixed: they are in emails that have been sent.
"""

import tomllib

import pytest
from django.conf import settings as django_settings

from delivery import reply_addresses, tokens
from delivery.reply_addresses import Purpose, ReferentKind

LINKS = [
    ("9EfeKVKMOXBj2S3N4W4R3fvWcsNcNWGz", (12345,), "unsubscribe"),
    ("Cepz3LXv_Ny8XpMB65t9Uq1bdegxmv1U", (12345,), "tracking"),
    ("96748IWX9rA57EtXgZ22GltPBcPM_Fxwhz3dLdiWbBw", (7, 8), "tracking"),
    ("BP75CXsy6bw6VnyvlC-eORhiWCzr28pV", (2**63 - 1,), "push"),
]
ADDRESSES = [
    ("stwmgcbk3myqpjjxhnnsk", ReferentKind.RECORD, 12345, Purpose.REPLY),
    ("mazpokmm3orv3qdxohdq", ReferentKind.CONVERSATION, 1, Purpose.REPLY),
    ("stxxnrmsslypmfttja2dgdpbyjk4uny", ReferentKind.ANSWER, 2**63 - 1, Purpose.REPLY),
    ("msr3izbdf4rqvbl5cjo5w", ReferentKind.RECORD, 12345, Purpose.BOUNCE),
    ("mzwozkotjoptndmlen6rdyq", ReferentKind.ANSWER, 70000, Purpose.BOUNCE),
]
NEW_LINKS = [
    ("V2IKRFhwme2fs71qdjgjSskBKN4AtgEC", (12345,), "unsubscribe"),
]
NEW_ADDRESSES = [
    ("iv25zpprryqb2a5xxpoqywwp4yfcybnuehse4vos", ReferentKind.RECORD, 12345, Purpose.REPLY),
]


@pytest.fixture(autouse=True)
def secret_key(settings):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "a key", []


@pytest.fixture
def next_version(monkeypatch):
    monkeypatch.setattr(tokens, "WRITE_AES_SIV", True)


def test_new_format_is_written_from_version_0_3_on():
    project = tomllib.loads((django_settings.BASE_DIR / "pyproject.toml").read_text())["project"]
    major, minor, *_ = map(int, project["version"].split("."))

    assert tokens.WRITE_AES_SIV is ((major, minor) >= (0, 3))


@pytest.mark.parametrize(("token", "numbers", "purpose"), LINKS)
def test_link_of_version_0_1_is_read_and_still_written(token, numbers, purpose):
    assert tokens.read_token(token, purpose=purpose, numbers=len(numbers)) == numbers
    assert tokens.make_token(*numbers, purpose=purpose) == token


@pytest.mark.parametrize(("token", "kind", "pk", "purpose"), ADDRESSES)
def test_address_of_version_0_1_is_read_and_still_written(token, kind, pk, purpose):
    assert reply_addresses.parse_token(token, purpose=purpose) == (kind, pk)
    assert reply_addresses.parse_token(token.upper(), purpose=purpose) == (kind, pk)
    assert reply_addresses.token_of(kind, pk, purpose=purpose) == token


@pytest.mark.parametrize(("token", "numbers", "purpose"), NEW_LINKS)
def test_link_of_the_next_version_is_read(token, numbers, purpose):
    assert tokens.read_token(token, purpose=purpose, numbers=len(numbers)) == numbers


@pytest.mark.parametrize(("token", "kind", "pk", "purpose"), NEW_ADDRESSES)
def test_address_of_the_next_version_is_read(token, kind, pk, purpose):
    assert reply_addresses.parse_token(token.upper(), purpose=purpose) == (kind, pk)


@pytest.mark.usefixtures("next_version")
@pytest.mark.parametrize(("old", "numbers", "purpose"), LINKS)
def test_new_link_is_read_for_its_purpose_only(settings, old, numbers, purpose):
    token = tokens.make_token(*numbers, purpose=purpose)

    assert token != old
    assert tokens.make_token(*numbers, purpose=purpose) == token
    assert tokens.read_token(token, purpose=purpose, numbers=len(numbers)) == numbers
    assert tokens.read_token(token, purpose="other", numbers=len(numbers)) is None
    assert tokens.read_token(old, purpose=purpose, numbers=len(numbers)) == numbers

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["older", "a key"]
    assert tokens.read_token(token, purpose=purpose, numbers=len(numbers)) == numbers
    settings.SECRET_KEY_FALLBACKS = []
    assert tokens.read_token(token, purpose=purpose, numbers=len(numbers)) is None


@pytest.mark.usefixtures("next_version")
@pytest.mark.parametrize(("old", "kind", "pk", "purpose"), ADDRESSES)
def test_new_address_is_read_for_its_purpose_only(settings, old, kind, pk, purpose):
    token = reply_addresses.token_of(kind, pk, purpose=purpose)
    assert (token != old, len(token), token) == (True, 40, token.lower())
    assert reply_addresses.parse_token(token.upper(), purpose=purpose) == (kind, pk)
    assert [reply_addresses.parse_token(token, purpose=other) for other in set(Purpose) - {purpose}] == [None, None]
    assert reply_addresses.parse_token(old, purpose=purpose) == (kind, pk)

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["older", "a key"]
    assert reply_addresses.parse_token(token, purpose=purpose) == (kind, pk)
    settings.SECRET_KEY_FALLBACKS = []
    assert reply_addresses.parse_token(token, purpose=purpose) is None


@pytest.mark.usefixtures("next_version")
def test_changed_character_makes_a_new_token_invalid():
    link = tokens.make_token(7, purpose="unsubscribe")
    address = reply_addresses.token_of(ReferentKind.RECORD, 7, purpose=Purpose.REPLY)

    for place in range(len(link)):
        forged = link[:place] + ("A" if link[place] != "A" else "B") + link[place + 1 :]
        assert tokens.read_token(forged, purpose="unsubscribe", numbers=1) is None
    for place in range(len(address)):
        forged = address[:place] + ("a" if address[place] != "a" else "b") + address[place + 1 :]
        assert reply_addresses.parse_token(forged, purpose=Purpose.REPLY) is None
    assert reply_addresses.parse_token("a" * 40, purpose=Purpose.REPLY) is None

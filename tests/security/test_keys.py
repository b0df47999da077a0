"""Rotation of SECRET_KEY: old tokens are valid only while the old key is a fallback."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.utils import timezone

from audiences.models import Customer, Subscription, Workspace
from delivery import rendering, reply_addresses, tokens
from delivery.messenger import sessions
from delivery.reply_addresses import Purpose, ReferentKind
from outbound.signin.invitations import invitations
from tests.factories import CustomerFactory

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class World:
    """The customers, records and accounts that the tokens refer to."""

    at: datetime
    grace: User
    invited: User
    ann: Customer


@pytest.fixture
def world() -> World:
    grace = User.objects.create_user("grace", "grace@acme.example", "correct-horse-7", is_staff=True)
    invited = User.objects.create_user("hedy", "hedy@acme.example", None, is_staff=True)
    return World(at=timezone.now(), grace=grace, invited=invited, ann=CustomerFactory())


def logged_in(world: World) -> Client:
    # Without its key the secret of the workspace cannot be read either.
    client = Client(raise_request_exception=False)
    client.force_login(world.grace)
    return client


def hook(world: World) -> int:
    facts = {"url": "https://x.example/", "topics": [], "created_at": world.at, "updated_at": world.at}
    return Subscription.objects.create(secret="of the hook", **facts).pk


def refuses(read: Callable[[], object]) -> bool:
    try:
        read()
    except ImproperlyConfigured:
        return True
    return False


# For each token: how to create it, and how to check it.
MADE: dict[str, tuple[Callable[[World], Any], Callable[[Any, World], bool]]] = {
    **{
        f"link of a mail: {purpose}": (
            lambda w, purpose=purpose: tokens.make_token(7, purpose=purpose),
            lambda made, w, purpose=purpose: tokens.read_token(made, purpose=purpose, numbers=1) == (7,),
        )
        for purpose in ("unsubscribe", "tracking", "push")
    },
    **{
        f"{purpose} address: {kind.name}": (
            lambda w, kind=kind, purpose=purpose: reply_addresses.token_of(kind, 7, purpose=purpose),
            lambda made, w, kind=kind, purpose=purpose: reply_addresses.parse_token(made, purpose=purpose) == (kind, 7),
        )
        for kind in ReferentKind
        for purpose in Purpose
    },
    "Message-ID of a copy": (
        lambda w: rendering.message_id(7),
        lambda made, w: reply_addresses.referent_of_message_id(made) == (ReferentKind.RECORD, 7),
    ),
    "Message-ID of an answer": (
        lambda w: reply_addresses.signed_message_id("answer", 7),
        lambda made, w: reply_addresses.referent_of_message_id(made) == (ReferentKind.ANSWER, 7),
    ),
    "visitor’s cookie": (
        lambda w: sessions.visitor_token(sessions.new_key()),
        lambda made, w: sessions.read_visitor(made) is not None,
    ),
    "messenger’s session": (
        lambda w: sessions.session_token(w.ann, secret="s", at=w.at),
        lambda made, w: (sessions.read_session(made, secret="s", at=w.at) or [None])[0] == w.ann.pk,
    ),
    "login": (logged_in, lambda made, w: made.get("/admin/").status_code == 200),
    "invitation": (
        lambda w: invitations.make_token(w.invited),
        lambda made, w: invitations.check_token(w.invited, made),
    ),
    "new password": (
        lambda w: default_token_generator.make_token(w.grace),
        lambda made, w: default_token_generator.check_token(w.grace, made),
    ),
    "identity secret": (
        lambda w: Workspace.current().identity_secret,
        lambda made, w: (
            not refuses(lambda: Workspace.objects.get()) and Workspace.objects.get().identity_secret == made
        ),
    ),
    "secret of a webhook": (
        hook,
        lambda made, w: (
            not refuses(lambda: Subscription.objects.get(pk=made))
            and Subscription.objects.get(pk=made).secret == "of the hook"
        ),
    ),
}


@pytest.mark.parametrize("what", MADE)
def test_tokens_of_an_old_key_are_valid_while_it_is_a_fallback(world, settings, what):
    make, holds = MADE[what]
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the first key", []
    Workspace.objects.all().delete()
    Workspace.current()
    made = make(world)
    assert holds(made, world)

    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another key", []
    assert not holds(made, world)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the third key", ["the second key", "the first key"]
    assert holds(made, world)

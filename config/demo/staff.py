"""Who works at the demo's company, and its API token: there at each start, whatever was tried out before."""

from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth.models import User
from knox.settings import CONSTANTS

from audiences.models import Integration
from outbound import roles

PASSWORD = "demo"  # noqa: S105 - it is printed at every start; the demo listens on 127.0.0.1 alone


@dataclass(frozen=True, slots=True)
class Team:
    """The two who can log in."""

    boss: User
    support: User


def have_team() -> Team:
    """Have them, with the password that is printed."""
    boss = have("demo", first_name="Dana", last_name="Moore", is_superuser=True)
    support = have("support", first_name="Sam", last_name="Quinn", is_superuser=False)
    if roles.role_of(support) is None:
        roles.give_role(support, roles.Role.SENDER)
    return Team(boss=boss, support=support)


def have(username: str, *, first_name: str, last_name: str, is_superuser: bool) -> User:
    """Have somebody who can log in."""
    user, is_new = User.objects.get_or_create(
        username=username,
        defaults={
            "first_name": first_name,
            "last_name": last_name,
            "email": f"{first_name.lower()}@fernwood.example",
            "is_staff": True,
            "is_superuser": is_superuser,
        },
    )
    if is_new:
        user.set_password(PASSWORD)
        user.save()
    return user


def have_token(path: Path) -> str:
    """Have an API token that works. It is hashed in the database, so `path` keeps it for the next start."""
    token = path.read_text() if path.exists() else ""
    if not token or not Integration.objects.filter(token_key=token[: CONSTANTS.TOKEN_KEY_LENGTH]).exists():
        _, token = Integration.issue(name="The demo")
        path.touch(mode=0o600)
        path.write_text(token)
    return token

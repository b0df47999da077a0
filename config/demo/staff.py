"""The teammates and the API token of the demo, restored at each start."""

from dataclasses import dataclass
from pathlib import Path

from django.contrib.auth.models import User
from knox.settings import CONSTANTS

from audiences.models import Integration
from outbound import roles

PASSWORD = "demo"  # noqa: S105 - printed at each start; the demo listens on 127.0.0.1 only


@dataclass(frozen=True, slots=True)
class Team:
    """The two teammates who can log in."""

    boss: User
    support: User


def ensure_team() -> Team:
    """Return the teammates; create them, and reset their passwords, if needed."""
    boss = ensure_user("demo", first_name="Dana", last_name="Moore", is_superuser=True)
    support = ensure_user("support", first_name="Sam", last_name="Quinn", is_superuser=False)
    if roles.role_of(support) is None:
        roles.give_role(support, roles.Role.SENDER)
    return Team(boss=boss, support=support)


def ensure_user(username: str, *, first_name: str, last_name: str, is_superuser: bool) -> User:
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


def ensure_token(path: Path) -> str:
    """Return a valid API token. The database stores only its hash, so `path` stores it for the next start."""
    token = path.read_text() if path.exists() else ""
    if not token or not Integration.objects.filter(token_key=token[: CONSTANTS.TOKEN_KEY_LENGTH]).exists():
        _, token = Integration.issue(name="The demo")
        path.touch(mode=0o600)
        path.write_text(token)
    return token

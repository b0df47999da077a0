"""The four roles, as Django groups, and the permissions of each in one table.

Each role has the permissions of the role before it and more. A change of the table needs a migration that calls
`install` again.
"""

from typing import Any

from django.apps import apps as installed
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import TextChoices


class Role(TextChoices):
    """The role of a teammate; the value is the name of the group."""

    VIEWER = "Viewer"
    AUTHOR = "Author"
    SENDER = "Sender"
    ADMIN = "Admin"


DESCRIPTIONS: dict[Role, str] = {
    Role.VIEWER: "Can view messages, reports and customers, but change nothing.",
    Role.AUTHOR: "Can write drafts and segments, and send tests to themselves.",
    Role.SENDER: "Can set live, pause, resume and stop messages, import people, send to one customer and reply.",
    Role.ADMIN: "Can also change settings, attributes, staff and API tokens.",
}
SET_LIVE = "messaging.set_live"
WRITE_TO_ONE = "messaging.write_to_one"
ANSWER_REQUESTS = "audiences.answer_requests"

# The permissions that each role adds to the role before it: (app, model) -> verbs of the codenames.
ADDED_PERMISSIONS: dict[Role, dict[tuple[str, str], tuple[str, ...]]] = {
    Role.VIEWER: {
        ("messaging", "message"): ("view",),
        ("messaging", "messageversion"): ("view",),
        ("messaging", "sender"): ("view",),
        ("messaging", "savedreply"): ("view",),
        ("delivery", "deliveryrecord"): ("view",),
        ("delivery", "conversation"): ("view",),
        ("delivery", "conversationpart"): ("view",),
        ("audiences", "customer"): ("view",),
        ("audiences", "company"): ("view",),
        ("audiences", "audience"): ("view",),
        ("audiences", "tag"): ("view",),
        ("audiences", "messagetopic"): ("view",),
        ("audiences", "customattribute"): ("view",),
        ("audiences", "eventname"): ("view",),
        ("audiences", "suppression"): ("view",),
    },
    Role.AUTHOR: {
        ("messaging", "message"): ("add", "change"),
        ("messaging", "messageversion"): ("add",),
        ("audiences", "audience"): ("add", "change", "delete"),
        ("audiences", "tag"): ("add",),
    },
    Role.SENDER: {
        ("messaging", "message"): ("set_live", "write_to_one"),
        ("messaging", "savedreply"): ("add", "change", "delete"),
        ("delivery", "deliveryrecord"): ("change",),
        ("delivery", "conversation"): ("add", "change"),
        ("delivery", "conversationpart"): ("add", "change"),
        ("audiences", "customer"): ("add", "change"),
        ("audiences", "company"): ("change",),
        ("audiences", "tag"): ("change", "delete"),
        ("audiences", "note"): ("view", "add"),
        ("audiences", "import"): ("view", "add", "change"),
        ("audiences", "suppression"): ("add", "change"),
        ("admin", "logentry"): ("view",),
    },
    Role.ADMIN: {
        ("messaging", "message"): ("delete",),
        ("messaging", "sender"): ("add", "change", "delete"),
        ("audiences", "customer"): ("answer_requests",),
        ("audiences", "customattribute"): ("change",),
        ("audiences", "eventname"): ("change",),
        ("audiences", "workspace"): ("view", "change"),
        ("audiences", "messagetopic"): ("add", "change"),
        ("audiences", "integration"): ("view", "add", "change", "delete"),
        ("audiences", "subscription"): ("view", "add", "change", "delete"),
        ("delivery", "pace"): ("view", "add", "change", "delete"),
        ("auth", "user"): ("view", "add", "change"),
        ("auth", "group"): ("view",),
        ("django_celery_beat", "periodictask"): ("view", "add", "change", "delete"),
        ("django_celery_beat", "intervalschedule"): ("view", "add", "change", "delete"),
        ("django_celery_beat", "crontabschedule"): ("view", "add", "change", "delete"),
        ("django_celery_beat", "solarschedule"): ("view", "add", "change", "delete"),
        ("django_celery_beat", "clockedschedule"): ("view", "add", "change", "delete"),
    },
}


def granted(role: Role) -> set[tuple[str, str, str]]:
    """Return all permissions of a role as (app, model, codename)."""
    roles = list(Role)
    return {
        (app, model, codename(verb, model))
        for one in roles[: roles.index(role) + 1]
        for (app, model), verbs in ADDED_PERMISSIONS[one].items()
        for verb in verbs
    }


def codename(verb: str, model: str) -> str:
    """Return a permission's codename: Django's four end in the model's name, ours stand alone."""
    return f"{verb}_{model}" if verb in ("view", "add", "change", "delete") else verb


def install(apps: Any = installed) -> None:
    """Give the four groups exactly their permissions; memberships do not change.

    Creates missing permissions, because Django creates its own only after all migrations have run.
    """
    groups, kinds = apps.get_model("auth", "Group"), apps.get_model("contenttypes", "ContentType")
    permissions = apps.get_model("auth", "Permission")
    made: dict[tuple[str, str, str], Any] = {}
    for app, model, name in sorted(granted(Role.ADMIN)):
        meta = installed.get_model(app, model)._meta
        label = dict(meta.permissions).get(name, f"Can {name.partition('_')[0]} {meta.verbose_name_raw}")
        kind, _ = kinds.objects.get_or_create(app_label=app, model=model)
        made[app, model, name], _ = permissions.objects.get_or_create(
            content_type=kind, codename=name, defaults={"name": label}
        )
    for role in Role:
        group, _ = groups.objects.get_or_create(name=role.value)
        group.permissions.set([made[one] for one in granted(role)])


def role_of(user: AbstractBaseUser | AnonymousUser) -> Role | None:
    """Return the role of a teammate: the highest if they have several, None if they have none."""
    if getattr(user, "is_superuser", False):
        return Role.ADMIN
    names = {group.name for group in user.groups.all()}  # type: ignore[union-attr]
    return next((role for role in reversed(Role) if role.value in names), None)


def give_role(user: Any, role: Role) -> None:
    """Give a teammate this role in place of their present one."""
    groups = installed.get_model("auth", "Group").objects
    user.groups.remove(*groups.filter(name__in=Role.values))
    user.groups.add(groups.get(name=role.value))

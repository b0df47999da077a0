"""Ongoing messages are great for onboarding new customers, and for helping them at key moments."""

from datetime import timedelta

from tests.factories import rule

DAY = 24 * 3600
WEEKDAYS = [{"weekday": day, "from": "09:00", "to": "17:00"} for day in range(5)]
IN_TRIAL = rule("custom_attributes.plan", "is", "trial")
TRIAL_ENDS_SOON = [rule("custom_attributes.trial_ends_at", "in_less_than_days", 3), IN_TRIAL]


def test_customer_is_contacted_right_before_their_trial_ends(staff, server, post, clock):
    """You can … contact them right before their trial ends."""
    server.user("ann", plan="trial", trial_ends_at=clock.days_ago(-14))
    server.user("bob", plan="trial", trial_ends_at=clock.days_ago(-30))
    staff.sets_live(rules=TRIAL_ENDS_SOON)

    clock.passes(days=10)
    assert post.reached == []
    clock.passes(days=2)
    assert post.reached == ["ann"]
    clock.passes(days=5)
    assert post.reached == ["ann"]


def test_customer_who_pays_before_their_trial_ends_is_not_contacted(staff, server, post, clock):
    """You can … contact them right before their trial ends: once they pay, it does not end."""
    server.user("ann", plan="trial", trial_ends_at=clock.days_ago(-14))
    staff.sets_live(rules=TRIAL_ENDS_SOON)

    clock.passes(days=10)
    server.user("ann", plan="paid")
    clock.passes(days=4)

    assert post.reached == []


def test_customer_is_asked_to_use_an_important_feature_for_the_first_time(staff, server, visit, clock):
    """You can let customers know when they should use an important feature for the first time."""
    server.user("ann", signed_up_at=clock.days_ago(0))
    server.user("bob", signed_up_at=clock.days_ago(0))
    unused = [rule("signed_up_at", "more_than_days_ago", 2), rule("event.created-project", "has_not_happened")]
    staff.sets_live(channel="in_app", body="<p>Create your first project</p>", rules=unused)
    server.event("bob", "created-project")

    assert visit("ann") == []
    clock.passes(days=3)

    assert visit("ann") == ["Create your first project"]
    assert visit("bob") == []


def test_specific_action_triggers_the_message_that_guides_to_the_next_logical_step(staff, server, visit):
    """After customers take a specific action, you can trigger a message that guides them to the next logical step."""
    server.user("ann")
    first = [rule("event.created-project", "has_happened")]
    second = [rule("event_count.created-project", "greater_than", 1)]
    staff.sets_live(channel="in_app", body="<p>Invite your team</p>", rules=first)
    staff.sets_live(channel="in_app", format="announcement", body="<p>Sort them in folders</p>", rules=second)

    assert visit("ann") == []
    server.event("ann", "created-project")
    assert visit("ann") == ["Invite your team"]


def test_next_step_is_sent_once_per_action(staff, server, visit, clock):
    """After customers take a specific action … : each action once, however often it happens."""
    server.user("ann")
    staff.sets_live(
        channel="in_app",
        body="<p>You have used up your free reports</p>",
        rules=[rule("event_count.exported-report", "greater_than", 2)],
    )

    for seen in ([], [], ["You have used up your free reports"], ["You have used up your free reports"]):
        server.event("ann", "exported-report")
        assert visit("ann") == seen
        clock.passes(minutes=5)


def test_first_onboarding_campaign_day_by_day(staff, server, visit, post, clock):
    """Check out this guide to create your first onboarding campaign.

    Two weeks of trial from Monday 4 May. Ann uses the feature at once and pays on the sixth day. Bob signs up with her
    and never comes back. Cid and Dee sign up on Wednesday, so their trials come within three days of the end on a
    Sunday, when nothing is delivered; Cid lets it run, Dee pays that Sunday.
    """
    staff.sets_live(subject="Welcome", rules=[rule("signed_up_at", "less_than_days_ago", 7)])
    staff.sets_live(
        channel="in_app",
        body="<p>First project</p>",
        rules=[rule("signed_up_at", "more_than_days_ago", 2), rule("event.created-project", "has_not_happened")],
    )
    # Attributes become available to rules with the first customer that has them.
    server.user("old", signed_up_at=clock.days_ago(300), plan="paid", trial_ends_at=clock.days_ago(280))
    server.event("old", "created-project")
    staff.sets_live(subject="Trial about to end", rules=TRIAL_ENDS_SOON, window=WEEKDAYS)

    def signs_up(user_id: str) -> None:
        now = clock.days_ago(0)
        server.user(user_id, signed_up_at=now, plan="trial", trial_ends_at=now + 14 * DAY)

    diary = {
        "Monday 4": [lambda: signs_up("ann"), lambda: signs_up("bob")],
        "Tuesday 5": [lambda: server.event("ann", "created-project")],
        "Wednesday 6": [lambda: signs_up("cid"), lambda: signs_up("dee")],
        "Thursday 7": [lambda: server.event("dee", "created-project")],
        "Saturday 9": [lambda: server.user("ann", plan="paid")],
        "Monday 11": [lambda: server.event("cid", "created-project")],
        "Sunday 17": [lambda: clock.passes(hours=8), lambda: server.user("dee", plan="paid")],
    }
    here, shown = {"old"}, {}
    for _ in range(18):
        today = f"{clock.now:%A %-d}"
        for happens in diary.get(today, ()):
            happens()
        here |= {user_id for user_id, day in (("ann", 4), ("cid", 6), ("dee", 6)) if clock.now.day >= day}
        for user_id in sorted(here):
            for text in visit(user_id):
                shown.setdefault((user_id, text), today)
        clock.passes(until=clock.now.replace(hour=12) + timedelta(days=1))

    mails = [(mail["Date"].datetime, recipient.partition("@")[0], mail["Subject"]) for recipient, mail in post.mails]
    assert [(f"{at:%A %-d}", *mail) for at, *mail in mails] == [
        ("Monday 4", "ann", "Welcome"),
        ("Monday 4", "bob", "Welcome"),
        ("Wednesday 6", "cid", "Welcome"),
        ("Wednesday 6", "dee", "Welcome"),
        ("Friday 15", "bob", "Trial about to end"),
        ("Monday 18", "cid", "Trial about to end"),
    ]
    assert shown == {("cid", "First project"): "Saturday 9"}

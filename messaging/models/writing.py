"""What a message says and whom it asks for: written freely in a draft, in versions from then on (DESIGN 4.2)."""

from datetime import datetime

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import models, transaction

from audiences import compiler
from audiences.models import CustomAttribute, Workspace
from audiences.rules import RuleError
from messaging import content
from messaging.models.choices import Channel, SendType, Style
from messaging.models.row import Row
from messaging.models.states import Locked, State
from messaging.models.version import MessageVersion


class Writing(Row):
    """The words and the filters of a message."""

    class Meta:
        abstract = True

    @property
    def dress(self) -> dict[str, str]:
        """What a version written now wears: the workspace's name, logo, colour and address where it is branded."""
        if self.channel != Channel.EMAIL or self.to_customer_id:
            return {}
        if self.style == Style.PLAIN:
            return {"style": Style.PLAIN.value}
        ours = Workspace.current()
        worn = {"name": ours.name, "logo": ours.logo, "colour": ours.colour, "address": ours.postal_address}
        return {"style": Style.BRANDED.value, **worn}

    def content_problems(self, *, subject: str, body: str, link: str = "") -> dict[str, list[str]]:
        """What is wrong with a subject, a body and a push's link, by field, each with its line and the reason."""
        catalogue = CustomAttribute.objects.catalogue()
        found = {}
        for name, text in (("subject", subject), ("body", body), ("link", link)):
            problems = content.check(
                text, custom_attributes=catalogue.customer.keys(), company_attributes=catalogue.company.keys()
            )
            if problems:
                found[name] = [str(problem) for problem in problems]
        if "\n" in subject or "\r" in subject:
            found.setdefault("subject", []).append("The subject is one line.")
        if link and "link" not in found and not content.is_link(link):
            found["link"] = [content.NO_LINK]
        if found or not self.is_locked or self.to_customer_id:
            return found
        if self.per_company != content.uses_company(subject, body, link):
            first_or_last = "remove the last" if self.per_company else "add the first"
            found.setdefault("body", []).append(
                f"This would {first_or_last} company variable, and so change how often a message that has been live"
                " is sent. Duplicate it instead."
            )
        return found

    def revise(self, *, subject: str, body: str, by: User | None, at: datetime, link: str = "") -> MessageVersion:
        """Change what it says: in place in a draft, as a new version once live. ValidationError by field."""
        try:
            body = content.sanitise(body)
        except content.ContentError as wrong:
            raise ValidationError({"body": f"Line {wrong.line}: {wrong}"}) from wrong
        link = link.strip() if self.channel == Channel.PUSH else ""
        with transaction.atomic():
            self.hold_for_writing()
            if problems := self.content_problems(subject=subject, body=body, link=link):
                raise ValidationError(problems)
            current = self.version
            dressed_alike = current is not None and (not self.is_locked or current.dress == self.dress)
            if current and dressed_alike and (current.subject, current.body, current.link) == (subject, body, link):
                return current
            if current and not self.is_locked:
                current.subject, current.body, current.link = subject, body, link
                current.author, current.created_at = by, at
                current.save()
                return current
            return self.add_version(subject=subject, body=body, link=link, by=by, at=at)

    def hold_for_writing(self) -> None:
        """Have the row as it is by now; Locked where what its writer took for a draft has gone live since."""
        was_draft = not self.is_locked
        self.hold()
        if was_draft and self.is_locked:
            raise Locked("This message has gone live meanwhile. Open it again to see what can still be changed.")

    def add_version(self, *, subject: str, body: str, by: User | None, at: datetime, link: str = "") -> MessageVersion:
        """Log a version and make it the current one."""
        with transaction.atomic():
            self.hold()
            numbers = MessageVersion.objects.filter(message=self.pk)
            last = numbers.aggregate(last=models.Max("number"))["last"] or 0
            self.version = MessageVersion.objects.create(
                message_id=self.pk,
                number=last + 1,
                subject=subject,
                body=body,
                link=link,
                dress=self.dress if self.is_locked else {},
                rules=self.audience.rules if self.audience else {},
                author=by,
                created_at=at,
            )
            type(self).objects.filter(pk=self.pk).update(version=self.version, updated_at=at)
        return self.version

    def ask_for(self, rules: object, *, by: User | None, at: datetime) -> None:
        """Change whom it goes to: freely in a draft; once live an ongoing one's, while paused, as a logged version."""
        with transaction.atomic():
            self.hold_for_writing()
            if self.audience is None:
                raise Locked("A message to one person has no audience.")
            if self.is_locked and self.send_type == SendType.ONE_OFF:
                raise Locked("This one-off has been live. Whom it goes to can no longer be changed.")
            if self.is_locked and self.state != State.PAUSED:
                raise Locked("Pause this message to change whom it goes to.")
            self.audience.rules = rules
            self.audience.save()
            if self.is_locked and self.version:
                self.audience.rules = compiler.freeze(
                    self.audience.tree, on=at.astimezone(Workspace.current().tz)
                ).as_json()
                self.audience.save()
                was = self.version
                self.add_version(subject=was.subject, body=was.body, link=was.link, by=by, at=at)

    def problems(self) -> list[str]:
        """What blocks going live, a sentence each."""
        found = []
        version = self.version
        if version is None or not version.body.strip():
            found.append("The message has no text yet.")
        if version and self.channel == Channel.EMAIL and not version.subject.strip():
            found.append("An email needs a subject.")
        if self.sender is None:
            found.append("Choose who the message is from.")
        if version:
            said = {"subject": version.subject, "body": version.body, "link": version.link}
            for lines in self.content_problems(**said).values():
                found.extend(lines)
            if self.to_customer_id and not self.to_company_id and content.uses_company(*said.values()):
                found.append("The text uses a company variable: choose which company it is about.")
        if self.audience:
            try:
                compiler.compile_tree(self.audience.tree)
            except RuleError as wrong:
                found.append(str(wrong))
        return found

    @property
    def goes_per_company(self) -> bool:
        """Whether it goes once for each company: while a draft, as its content says now."""
        if self.is_locked or self.version is None or self.to_customer_id:
            return self.per_company
        return content.uses_company(self.version.subject, self.version.body, self.version.link)

    def freeze_audience(self, *, at: datetime) -> None:
        """Copy the segments its rules name into them, and log the rules in the version that goes live."""
        if self.audience is None or self.version is None:
            return
        tree = compiler.freeze(self.audience.tree, on=at.astimezone(Workspace.current().tz))
        self.audience.rules = self.version.rules = tree.as_json()
        self.version.dress = self.dress
        self.audience.save()
        self.version.save()

"""Idempotency keys of the API: a repeated POST with the same key has one effect, and gets the first answer again."""

from datetime import datetime, timedelta

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Value
from django.db.models.functions import Cast

from audiences.models.sealed import SealedField
from audiences.models.workspace import Integration


class IdempotencyKeyQuerySet(models.QuerySet["IdempotencyKey"]):
    def delete_expired(self, *, at: datetime) -> int:
        return self.filter(created_at__lte=at - IdempotencyKey.LIFETIME).delete()[0]

    def forget_person(self, customer_id: int) -> int:
        """Delete the answers about a person. The keys stay, so that the requests still have one effect."""
        return self.filter(people__contains=[customer_id]).update(answer=None, people=[])

    def move_person(self, customer_id: int, *, into: int) -> int:
        """Let the answers about a lead be about the user whom the lead was merged into."""
        keys = [Cast(Value(pk), models.BigIntegerField()) for pk in (customer_id, into)]
        moved = Func(F("people"), *keys, function="array_replace")
        return self.filter(people__contains=[customer_id]).update(people=moved)


class IdempotencyKey(models.Model):
    """One carried out request of an integration, inserted in the transaction of its effects."""

    LIFETIME = timedelta(hours=24)

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    # The digest of address, query and body: another request with the same key is an error.
    digest = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    # JSON, "" for an empty body. Null while the request is carried out, and after a person in it was erased.
    answer = SealedField(null=True)
    # The customers whom the answer is about.
    people = ArrayField(models.BigIntegerField(), default=list)
    created_at = models.DateTimeField(db_index=True)

    objects = IdempotencyKeyQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(name="carried_out_once", fields=("integration", "key"))]

    def __str__(self) -> str:
        return self.key

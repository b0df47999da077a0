"""Tags on customers and companies."""

from django.db import models
from django.db.models.functions import Lower

from audiences import change_log


class Tag(models.Model):
    """A tag. Names are unique regardless of case."""

    name = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("name"), name="tag_name_once", violation_error_message="A tag with this name already exists."
            ),
        ]

    def __str__(self) -> str:
        return self.name


class CustomerTag(models.Model):
    """A tag on a customer."""

    customer = models.ForeignKey("audiences.Customer", on_delete=models.CASCADE)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="customer_tagged_once", fields=("customer", "tag"))]
        triggers = change_log.row_triggers("tag_id", bits=str(change_log.BIT["tag"]))

    def __str__(self) -> str:
        return f"{self.tag} on {self.customer}"


class CompanyTag(models.Model):
    """A tag on a company."""

    company = models.ForeignKey("audiences.Company", on_delete=models.CASCADE)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="company_tagged_once", fields=("company", "tag"))]
        triggers = change_log.row_triggers("tag_id", bits=str(change_log.BIT["company.tag"]), of=("company_id",))

    def __str__(self) -> str:
        return f"{self.tag} on {self.company}"

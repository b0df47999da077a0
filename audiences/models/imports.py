"""Imports of CSV files with customers, or with addresses that unsubscribed elsewhere."""

from django.conf import settings
from django.db import models


class ImportKind(models.TextChoices):
    """The content of a file."""

    CUSTOMERS = "customers", "Customers"
    UNSUBSCRIBED = "unsubscribed", "Addresses that unsubscribed elsewhere"


class ImportState(models.TextChoices):
    """The state of an import."""

    READING = "reading", "Being read"  # All cells are read once, for the guesses about columns.
    UPLOADED = "uploaded", "Not checked yet"  # A teammate has to map the columns.
    CHECKING = "checking", "Being checked"
    CHECKED = "checked", "Checked"  # The result is known; nothing is written.
    WRITING = "writing", "Being imported"
    DONE = "done", "Done"
    CANCELLED = "cancelled", "Cancelled"


UNDER_WAY = (ImportState.READING, ImportState.CHECKING, ImportState.WRITING)


class Import(models.Model):
    """One file. It is read in slices, to inspect, to check and to write it. `position` is the next byte to read."""

    kind = models.CharField(max_length=16, choices=ImportKind, default=ImportKind.CUSTOMERS)
    state = models.CharField(max_length=16, choices=ImportState, default=ImportState.READING)
    file_name = models.CharField(max_length=255)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    delimiter = models.CharField(max_length=1, default=",")
    encoding = models.CharField(max_length=16, default="utf-8")
    columns = models.JSONField(default=list)
    # Of each column, in order: the shapes of its cells and examples (`intake.csv_import.column_facts`).
    column_facts = models.JSONField(default=list)
    # The target of each column, in order; "" is not imported.
    targets = models.JSONField(default=list)
    # The date format of each column, in order, also of columns that are not dates.
    date_formats = models.JSONField(default=list)
    # Added to every customer in the file.
    tag = models.ForeignKey("audiences.Tag", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    size = models.BigIntegerField(default=0)
    position = models.BigIntegerField(default=0)
    # Lines and records before `position`. A quoted record can have several lines.
    lines = models.BigIntegerField(default=0)
    records = models.BigIntegerField(default=0)
    # Counts of the result: of the dry run, or of the import.
    made = models.BigIntegerField(default=0)
    changed = models.BigIntegerField(default=0)
    unchanged = models.BigIntegerField(default=0)
    unmatched = models.BigIntegerField(default=0)
    wrong = models.BigIntegerField(default=0)
    # Records with bytes that are not valid in the encoding, counted when the columns are read.
    undecodable = models.BigIntegerField(default=0)

    class Meta:
        indexes = [
            models.Index(
                name="import_under_way", fields=("id",), condition=models.Q(state__in=[str(s) for s in UNDER_WAY])
            )
        ]
        constraints = [
            models.CheckConstraint(name="import_state_is_known", condition=models.Q(state__in=ImportState.values))
        ]

    def __str__(self) -> str:
        return self.file_name

    @property
    def percent(self) -> int:
        """The share of the file that was read, in whole percent."""
        return min(100, 100 * self.position // self.size) if self.size else 0


class ImportChunk(models.Model):
    """A chunk of the file. It is in the database because all workers can read it there."""

    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="chunks")
    begins = models.BigIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(name="import_chunk_once", fields=("of", "begins"))]

    def __str__(self) -> str:
        return f"{self.of} from byte {self.begins}"


class ImportProblem(models.Model):
    """A record that cannot be imported, with its line, the column and the reason."""

    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="problems")
    line = models.BigIntegerField()
    column = models.CharField(max_length=255, blank=True)
    reason = models.TextField()

    class Meta:
        indexes = [models.Index(name="import_problem_in_order", fields=("of", "line"))]

    def __str__(self) -> str:
        return f"Line {self.line}: {self.reason}"


class ImportNewcomer(models.Model):
    """A customer that a dry run would create, so that a later line about them does not count as another."""

    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="newcomers", db_index=False)
    user_id = models.TextField(null=True)  # noqa: DJ001 - null is none, as with customers
    email = models.TextField(null=True)  # noqa: DJ001
    facts = models.JSONField(default=dict)
    attributes = models.JSONField(default=dict)

    class Meta:
        indexes = [
            models.Index(
                name="newcomer_by_user_id", fields=("of", "user_id"), condition=models.Q(user_id__isnull=False)
            ),
            models.Index(name="newcomer_by_email", fields=("of", "email"), condition=models.Q(email__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.user_id or self.email or "Unknown customer"

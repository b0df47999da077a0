"""Imports of CSV files with customers, or with addresses that unsubscribed elsewhere."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
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
    UNDOING = "undoing", "Being undone"
    UNDONE = "undone", "Undone"


UNDER_WAY = (ImportState.READING, ImportState.CHECKING, ImportState.WRITING, ImportState.UNDOING)
# The file is deleted.
ENDED = (ImportState.DONE, ImportState.CANCELLED, ImportState.UNDONE)


class Import(models.Model):
    """One file. It is read in slices, to inspect, to check and to write it. `position` is the next byte to read.

    An undo goes through the lines backwards: then `position` is the last line that it has undone.
    """

    kind = models.CharField(max_length=16, choices=ImportKind, default=ImportKind.CUSTOMERS)
    state = models.CharField(max_length=16, choices=ImportState, default=ImportState.READING)
    file_name = models.CharField(max_length=255)
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    delimiter = models.CharField(max_length=1, default=",")
    encoding = models.CharField(max_length=16, default="utf-8", db_default="utf-8")
    columns = models.JSONField(default=list)
    # Of each column, in order: the shapes of its cells and examples (`intake.csv_import.column_facts`).
    column_facts = models.JSONField(default=list, db_default=[])
    # The target of each column, in order; "" is not imported.
    targets = models.JSONField(default=list)
    # The date format of each column, in order, also of columns that are not dates.
    date_formats = models.JSONField(default=list, db_default=[])
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
    # Of a dry run: records about a customer of an earlier record, and those of them that change it again.
    repeated = models.BigIntegerField(default=0, db_default=0)
    repeated_changes = models.BigIntegerField(default=0, db_default=0)
    # Lines that were undone, and lines that were not, or not completely.
    undone = models.BigIntegerField(default=0, db_default=0)
    kept = models.BigIntegerField(default=0, db_default=0)
    # Records with bytes that are not valid in the encoding, counted when the columns are read.
    undecodable = models.BigIntegerField(default=0, db_default=0)

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
        """The share of the file that was read, or of the lines that were undone, in whole percent."""
        if self.state == ImportState.UNDOING:
            return min(100, 100 * (self.undone + self.kept) // max(1, self.made + self.changed))
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


class ProblemKind(models.TextChoices):
    """The kind of a note about a record."""

    ERROR = "error", "Error"  # It cannot be imported.
    REPEAT = "repeat", "Repeated customer"  # It changes a customer of an earlier record.


class ImportProblem(models.Model):
    """A note about a record, with its line, the column or field, and the reason."""

    kind = models.CharField(max_length=8, choices=ProblemKind, default=ProblemKind.ERROR, db_default=ProblemKind.ERROR)
    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="problems")
    line = models.BigIntegerField()
    column = models.CharField(max_length=255, blank=True)
    reason = models.TextField()

    class Meta:
        indexes = [models.Index(name="import_problem_in_order", fields=("of", "line"))]

    def __str__(self) -> str:
        return f"Line {self.line}: {self.reason}"


class ImportPreview(models.Model):
    """A customer as the lines that a dry run has read would leave them. `line` is the last of these lines."""

    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="previews", db_index=False)
    line = models.BigIntegerField()
    # Null if the import would create them. The row is short-lived, so no foreign key protects it.
    existing = models.BigIntegerField(null=True)
    user_id = models.TextField(null=True)  # noqa: DJ001 - null is none, as with customers
    email = models.TextField(null=True)  # noqa: DJ001
    facts = models.JSONField(default=dict)
    attributes = models.JSONField(default=dict)

    class Meta:
        indexes = [
            models.Index(
                name="preview_by_user_id", fields=("of", "user_id"), condition=models.Q(user_id__isnull=False)
            ),
            models.Index(name="preview_by_email", fields=("of", "email"), condition=models.Q(email__isnull=False)),
            models.Index(
                name="preview_by_customer", fields=("of", "existing"), condition=models.Q(existing__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.user_id or self.email or "Unknown customer"


class ImportCreation(models.Model):
    """The customers that a slice of an import created, with their lines in the same order. It is kept for a month."""

    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="creations", db_index=False)
    # The number of lines before the slice.
    begins = models.BigIntegerField()
    written_at = models.DateTimeField()
    lines = ArrayField(models.BigIntegerField())
    customers = ArrayField(models.BigIntegerField())
    # Undone, except for the lines with a row in `ImportLine`.
    is_undone = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = [models.UniqueConstraint(name="import_creation_once", fields=("of", "begins"))]

    def __str__(self) -> str:
        return f"{len(self.customers)} customers of {self.of}"


class UndoResult(models.TextChoices):
    """Whether the effect of a line was undone."""

    NONE = "", "Not tried"
    UNDONE = "undone", "Undone"
    KEPT = "kept", "Not undone, or not completely"


class ImportLine(models.Model):
    """The effect of a record that changed a customer. It is kept for a month.

    `changes` has a pair of the old and the new value for each field, and the keys of added tags and companies. It is
    null once the customer was erased. A record that created a customer has a row only if it could not be undone.
    """

    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="effects", db_index=False)
    line = models.BigIntegerField()
    # Without a constraint, which would be checked for each inserted row.
    customer = models.ForeignKey(
        "audiences.Customer", on_delete=models.DO_NOTHING, related_name="+", db_constraint=False
    )
    created = models.BooleanField(default=False, db_default=False)
    written_at = models.DateTimeField()
    changes = models.JSONField(null=True)
    undo = models.CharField(max_length=8, choices=UndoResult, default="", db_default="", blank=True)
    # The reason why the line was not undone, or not completely.
    reason = models.TextField(default="", db_default="", blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="import_line_once", fields=("of", "line"))]
        indexes = [
            models.Index(
                name="import_line_not_undone", fields=("of", "line"), condition=models.Q(undo=UndoResult.KEPT)
            ),
        ]

    def __str__(self) -> str:
        return f"Line {self.line} of {self.of}"

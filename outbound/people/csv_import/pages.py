"""CSV import of customers, or of addresses that unsubscribed elsewhere. A file is checked before it is written."""

import csv
import re
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from audiences import intake
from audiences.intake import csv_import
from audiences.models import Import, ImportKind, ImportState, Tag
from audiences.models.imports import ENDED, UNDER_WAY, UndoResult
from delivery import tasks
from outbound.console.admin import ConsoleAdmin, answer_without_button, teammate
from outbound.console.timeouts import longer_statements
from outbound.console.wording import counted
from outbound.people.csv_import.columns import column_rows, column_targets, new_kinds
from outbound.people.csv_import.lines import line_rows

PERMISSION = "audiences.add_import"
LATEST_IMPORTS = 10
SHOWN_PROBLEMS = 100
MAX_UPLOAD_BYTES = 2**30
ASCII_DIGITS = re.compile(r"[0-9]{1,15}")
# Small files finish within the request; a worker continues with larger ones.
TIME_IN_REQUEST = timedelta(seconds=1)
PAGES = (
    ("import/", "import_file"),
    ("import/<int:key>/", "import_page"),
    ("import/<int:key>/errors.csv", "import_errors"),
    ("import/<int:key>/lines/", "import_lines"),
    ("import/<int:key>/<slug:verb>/", "import_act"),
)
LOGGED: dict[str, str] = {
    ImportKind.CUSTOMERS: "Imported the customers of “{}”",
    ImportKind.UNSUBSCRIBED: "Imported the opt-outs of “{}”",
}


class FileForm(forms.Form):
    """The upload: a CSV file, and what it contains."""

    kind = forms.ChoiceField(choices=ImportKind, widget=forms.RadioSelect, initial=ImportKind.CUSTOMERS)
    file = forms.FileField(
        label="CSV file",
        error_messages={"required": "Choose a file.", "empty": "This file is empty."},
        widget=forms.FileInput({"accept": ".csv,.tsv,.txt,text/csv,text/plain", "class": "ob-input ob-file"}),
    )

    def clean_file(self) -> Any:
        upload = self.cleaned_data["file"]
        if upload.size > MAX_UPLOAD_BYTES:
            raise forms.ValidationError("The file is larger than 1 GB. Split it and import the parts.")
        return upload


class ImportPages(ConsoleAdmin):
    """The pages of CSV imports, under People."""

    @longer_statements()
    def import_file(self, request: HttpRequest) -> HttpResponse:
        """Show the upload form and the latest imports; store an upload."""
        require_permission(request)
        asked = request.GET.get("kind")
        initial = {"kind": asked} if asked in ImportKind.values else None
        form = FileForm(request.POST or None, request.FILES or None, initial=initial)
        if request.method == "POST" and form.is_valid():
            upload = form.cleaned_data["file"]
            try:
                job = csv_import.store_upload(
                    upload.file,
                    name=upload.name or "file.csv",
                    kind=ImportKind(form.cleaned_data["kind"]),
                    by=teammate(request),
                    at=timezone.now(),
                )
            except intake.Refused as no:
                form.add_error("file", str(no))
            else:
                start_job(job)
                return HttpResponseRedirect(import_url(job))
        return self.page(
            request,
            "outbound/people/import.html",
            title="Import",
            crumb="Import",
            form=form,
            latest=Import.objects.select_related("started_by").order_by("-pk")[:LATEST_IMPORTS],
        )

    def import_page(self, request: HttpRequest, key: int) -> HttpResponse:
        require_permission(request)
        return self.render_import(request, import_or_404(key))

    def render_import(self, request: HttpRequest, job: Import, wrong: str = "") -> HttpResponse:
        problems = csv_import.problems_of(job)[:SHOWN_PROBLEMS]
        repeats = csv_import.repeats_of(job)
        return self.page(
            request,
            "outbound/people/import_job.html",
            title=job.file_name,
            crumb=job.file_name,
            job=job,
            wrong=wrong,
            is_list=job.kind == ImportKind.UNSUBSCRIBED,
            columns=column_rows(job),
            choices=column_targets(job),
            new_kinds=new_kinds(),
            encodings=csv_import.ENCODINGS.items() if job.encoding in csv_import.ENCODINGS else (),
            encoding=csv_import.encoding_label(job.encoding),
            tag=request.POST.get("tag", job.tag.name if job.tag else ""),
            tags=Tag.objects.order_by("name").values_list("name", flat=True)[:500],
            says=summary(job),
            problems=problems,
            repeats=repeats[:SHOWN_PROBLEMS],
            more_repeats=len(repeats) > SHOWN_PROBLEMS,
            more=max(0, job.wrong - len({problem.line for problem in problems})),
            unkept=unstored_errors(job),
            has_lines=has_lines(job),
            can_undo=csv_import.can_undo(job),
            has_ended=job.state in ENDED,
            kept=job.effects.filter(undo=UndoResult.KEPT).order_by("line")[:SHOWN_PROBLEMS] if job.kept else (),
            more_kept=max(0, job.kept - SHOWN_PROBLEMS),
            under_way=job.state in UNDER_WAY,
            can_choose=job.state in (ImportState.UPLOADED, ImportState.CHECKED),
        )

    @longer_statements()
    def import_lines(self, request: HttpRequest, key: int) -> HttpResponse:
        """List the lines of an import with their effects, from a line on."""
        require_permission(request)
        job = import_or_404(key)
        asked = request.GET.get("after", "")
        after = int(asked) if ASCII_DIGITS.fullmatch(asked) else 0
        rows, following = line_rows(job, after=after)
        return self.page(
            request,
            "outbound/people/import_lines.html",
            title=f"Lines of {job.file_name}",
            crumb=job.file_name,
            job=job,
            rows=rows,
            after=after,
            following=following,
        )

    @longer_statements()
    def import_act(self, request: HttpRequest, key: int, verb: str) -> HttpResponse:
        """Run an action of the import page: check, read in another encoding, write, cancel or undo."""
        if request.method != "POST":
            return answer_without_button(request, reverse("admin:customer_import_page", args=[key]))
        require_permission(request)
        job = import_or_404(key)
        if verb not in ACTIONS:
            raise Http404(f"There is no action “{verb}” for an import.")
        try:
            ACTIONS[verb](self, request, job)
        except intake.Refused as no:
            job.refresh_from_db()
            return self.render_import(request, job, wrong=str(no))
        return HttpResponseRedirect(import_url(job))

    @longer_statements()
    def import_errors(self, request: HttpRequest, key: int) -> HttpResponse:
        """Return the errors of an import as a CSV file."""
        require_permission(request)
        job = import_or_404(key)
        answer = HttpResponse(content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="errors-{job.pk}.csv"'
        writer: Any = csv.writer(answer)
        writer.writerow(["line", "column", "reason"])
        for problem in csv_import.problems_of(job):
            writer.writerow([problem.line, csv_import.safe_cell(problem.column), csv_import.safe_cell(problem.reason)])
        if more := unstored_errors(job):
            writer.writerow(
                ["", "", f"{counted(more, 'more line has', 'more lines have')} an error that is not stored."]
            )
        return answer


def unstored_errors(job: Import) -> int:
    """Return the number of wrong lines whose errors are not stored."""
    return max(0, job.wrong - len({problem.line for problem in csv_import.problems_of(job)}))


def has_lines(job: Import) -> bool:
    return job.creations.exists() or job.effects.exists()


def require_permission(request: HttpRequest) -> None:
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied


def import_or_404(key: int) -> Import:
    job = Import.objects.select_related("tag", "started_by").filter(pk=key).first()
    if job is None:
        raise Http404(f"Import {key} does not exist.")
    return job


def import_url(job: Import) -> str:
    return reverse("admin:customer_import_page", args=[job.pk])


def check_file(_admin: ConsoleAdmin, request: HttpRequest, job: Import) -> None:
    """Start the check of the file. Nothing is written to customers."""
    at = timezone.now()
    targets, date_formats = request.POST.getlist("target"), request.POST.getlist("date_format")
    name = request.POST.get("tag", "").strip()
    with transaction.atomic():
        tag = intake.find_or_make_tag(name, at=at) if name and job.kind == ImportKind.CUSTOMERS else None
        csv_import.start_import(job, ImportState.CHECKING, targets=targets, tag=tag, at=at, date_formats=date_formats)
    start_job(job)


def read_again(_admin: ConsoleAdmin, request: HttpRequest, job: Import) -> None:
    """Read the file in another encoding."""
    csv_import.change_encoding(job, request.POST.get("encoding", ""), at=timezone.now())
    start_job(job)


def write_customers(admin: ConsoleAdmin, request: HttpRequest, job: Import) -> None:
    """Start writing the checked file."""
    with transaction.atomic():
        csv_import.start_import(job, ImportState.WRITING, targets=job.targets, tag=job.tag, at=timezone.now())
        admin.note(request, job, LOGGED[job.kind].format(job.file_name))
    start_job(job)


def cancel_import(admin: ConsoleAdmin, request: HttpRequest, job: Import) -> None:
    """Cancel the import and delete the file."""
    with transaction.atomic():
        csv_import.cancel_import(job, at=timezone.now())
        admin.note(request, job, f"Cancelled the import of “{job.file_name}”")
    messages.success(
        request, "The import is cancelled and its file is deleted. Changes that were already written stay."
    )


def undo_import(admin: ConsoleAdmin, request: HttpRequest, job: Import) -> None:
    """Start to undo the import."""
    with transaction.atomic():
        csv_import.start_undo(job, at=timezone.now())
        admin.note(request, job, f"Undid the import of “{job.file_name}”")
    start_job(job)


def start_job(job: Import) -> None:
    """Process the file for a second; a worker continues if that is not enough."""
    if csv_import.continue_import(job.pk, clock=timezone.now, until=timezone.now() + TIME_IN_REQUEST):
        tasks.enqueue_import(job.pk)


ACTIONS = {
    "check": check_file,
    "encoding": read_again,
    "write": write_customers,
    "cancel": cancel_import,
    "undo": undo_import,
}


def summary(job: Import) -> list[str]:
    """Summarise what the import would change or has changed, one sentence per count."""
    again = f", and {job.repeated_changes:,} of them would change the customer again" if job.repeated_changes else ""
    if job.state in (ImportState.UNDOING, ImportState.UNDONE):
        undone = (
            (job.undone, "line", "lines", " undone"),
            (job.kept, "line", "lines", " not undone, or not completely"),
        )
        return [f"{counted(number, one, many)}{rest}." for number, one, many, rest in undone if number]
    done = job.state in (ImportState.WRITING, ImportState.DONE, ImportState.CANCELLED)
    if job.kind == ImportKind.UNSUBSCRIBED:
        found = [
            (job.changed, "address", "addresses", " unsubscribed" if done else " would be unsubscribed"),
            (job.unchanged, "address was", "addresses were", " already on the list, or in the file twice"),
            (job.unmatched, "address matches", "addresses match", " no customer yet: kept for later customers"),
        ]
    else:
        found = [
            (job.made, "new customer", "new customers", " created" if done else ""),
            (job.changed, "customer", "customers", " changed" if done else " would change"),
            (job.unchanged, "customer", "customers", " without changes"),
            (job.repeated, "line repeats", "lines repeat", f" a customer of an earlier line{again}"),
        ]
    found.append(
        (job.wrong, "line", "lines", " skipped because of errors" if done else " would be skipped because of errors")
    )
    return [f"{counted(number, one, many)}{rest}." for number, one, many, rest in found if number]

"""Import: a file of customers, or of addresses that unsubscribed elsewhere. First checked, then written."""

import csv
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
from audiences.attributes import CUSTOM
from audiences.intake import csv_import
from audiences.models import CustomAttribute, Import, ImportKind, ImportState, Tag
from audiences.models.catalogue import KINDS, Scope
from audiences.models.imports import UNDER_WAY
from audiences.rules import KIND_NAMES, Kind
from delivery import tasks
from outbound.console.admin import ConsoleAdmin, not_done, teammate
from outbound.console.timeouts import longer_statements
from outbound.console.wording import counted

PERMISSION = "audiences.add_import"
LATEST = 10
SHOWN_PROBLEMS = 100
LARGEST = 2**30
# A small file is done before the page is drawn; a worker goes on with a large one.
AT_ONCE = timedelta(seconds=1)
PAGES = (
    ("import/", "import_file"),
    ("import/<int:key>/", "import_page"),
    ("import/<int:key>/errors.csv", "import_errors"),
    ("import/<int:key>/<slug:verb>/", "import_act"),
)
LOGGED: dict[str, str] = {
    ImportKind.CUSTOMERS: "Imported the customers of “{}”",
    ImportKind.UNSUBSCRIBED: "Imported the opt-outs of “{}”",
}


class FileForm(forms.Form):
    """What is in the file, and the file."""

    kind = forms.ChoiceField(choices=ImportKind, widget=forms.RadioSelect, initial=ImportKind.CUSTOMERS)
    file = forms.FileField(
        label="CSV file",
        error_messages={"required": "Choose a file.", "empty": "This file is empty."},
        widget=forms.FileInput({"accept": ".csv,.tsv,.txt,text/csv,text/plain", "class": "ob-input ob-file"}),
    )

    def clean_file(self) -> Any:
        """Refuse what is too large to be kept."""
        upload = self.cleaned_data["file"]
        if upload.size > LARGEST:
            raise forms.ValidationError("This file is larger than 1 GB. Import it in parts.")
        return upload


class ImportPages(ConsoleAdmin):
    """The pages of imports, below People."""

    @longer_statements()
    def import_file(self, request: HttpRequest) -> HttpResponse:
        """Choose a file."""
        may_import(request)
        form = FileForm(request.POST or None, request.FILES or None)
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
                return HttpResponseRedirect(address(job))
        return self.page(
            request,
            "outbound/import.html",
            title="Import",
            crumb="Import",
            form=form,
            latest=Import.objects.select_related("started_by").order_by("-pk")[:LATEST],
        )

    def import_page(self, request: HttpRequest, key: int) -> HttpResponse:
        """One import, wherever it stands."""
        may_import(request)
        return self.import_drawn(request, found(key))

    def import_drawn(self, request: HttpRequest, job: Import, wrong: str = "") -> HttpResponse:
        """Draw it."""
        problems = list(job.problems.order_by("line", "pk")[:SHOWN_PROBLEMS])
        return self.page(
            request,
            "outbound/import_job.html",
            title=job.file_name,
            crumb=job.file_name,
            job=job,
            wrong=wrong,
            is_list=job.kind == ImportKind.UNSUBSCRIBED,
            columns=columns(job),
            choices=choices(job),
            new_kinds=[(kind, KIND_NAMES[Kind(kind)]) for kind, _ in KINDS],
            tag=request.POST.get("tag", job.tag.name if job.tag else ""),
            tags=Tag.objects.order_by("name").values_list("name", flat=True)[:500],
            says=says(job),
            problems=problems,
            more=max(0, job.wrong - len({problem.line for problem in problems})),
            unkept=beyond(job),
            under_way=job.state in UNDER_WAY,
            can_choose=job.state in (ImportState.UPLOADED, ImportState.CHECKED),
        )

    @longer_statements()
    def import_act(self, request: HttpRequest, key: int, verb: str) -> HttpResponse:
        """Do what a button says."""
        if request.method != "POST":
            return not_done(request, reverse("admin:customer_import_page", args=[key]))
        may_import(request)
        job = found(key)
        if verb not in ACTS:
            raise Http404(f"An import cannot {verb}.")
        try:
            ACTS[verb](self, request, job)
        except intake.Refused as no:
            job.refresh_from_db()
            return self.import_drawn(request, job, wrong=str(no))
        return HttpResponseRedirect(address(job))

    @longer_statements()
    def import_errors(self, request: HttpRequest, key: int) -> HttpResponse:
        """What cannot be imported, as a file."""
        may_import(request)
        job = found(key)
        answer = HttpResponse(content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="errors-{job.pk}.csv"'
        writer: Any = csv.writer(answer)
        writer.writerow(["line", "column", "reason"])
        for problem in csv_import.problems_of(job):
            writer.writerow([problem.line, csv_import.safe_cell(problem.column), csv_import.safe_cell(problem.reason)])
        if more := beyond(job):
            writer.writerow(["", "", f"{counted(more, 'more line has', 'more lines have')} an error that is not kept."])
        return answer


def beyond(job: Import) -> int:
    """How many lines have an error besides those whose errors are kept."""
    return max(0, job.wrong - job.problems.values("line").distinct().count())


def may_import(request: HttpRequest) -> None:
    """Let nobody else this far."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied


def found(key: int) -> Import:
    """The import; 404 where there is none."""
    job = Import.objects.select_related("tag", "started_by").filter(pk=key).first()
    if job is None:
        raise Http404(f"There is no import {key}.")
    return job


def address(job: Import) -> str:
    """Where an import is."""
    return reverse("admin:customer_import_page", args=[job.pk])


# What its buttons do


def check(_admin: ConsoleAdmin, request: HttpRequest, job: Import) -> None:
    """See what it would do; nothing is written."""
    at = timezone.now()
    name = request.POST.get("tag", "").strip()
    with transaction.atomic():
        tag = intake.find_or_make_tag(name, at=at) if name and job.kind == ImportKind.CUSTOMERS else None
        csv_import.begin(job, ImportState.CHECKING, targets=request.POST.getlist("target"), tag=tag, at=at)
    go_on(job)


def write(admin: ConsoleAdmin, request: HttpRequest, job: Import) -> None:
    """Write what was checked."""
    with transaction.atomic():
        csv_import.begin(job, ImportState.WRITING, targets=job.targets, tag=job.tag, at=timezone.now())
        admin.note(request, job, LOGGED[job.kind].format(job.file_name))
    go_on(job)


def cancel(admin: ConsoleAdmin, request: HttpRequest, job: Import) -> None:
    """Leave it, and forget the file."""
    with transaction.atomic():
        csv_import.cancel(job, at=timezone.now())
        admin.note(request, job, f"Cancelled the import of “{job.file_name}”")
    messages.success(request, "The import is cancelled and the file is no longer kept. What was written stays.")


def go_on(job: Import) -> None:
    """Begin at once; a worker goes on."""
    if csv_import.go_on(job.pk, clock=timezone.now, until=timezone.now() + AT_ONCE):
        tasks.enqueue_import(job.pk)


ACTS = {"check": check, "write": write, "cancel": cancel}


# How it reads


def columns(job: Import) -> list[dict[str, Any]]:
    """Each column with its first values, and what it is to be."""
    targets = [*job.targets, *[""] * len(job.columns)]
    found = []
    for place, name in enumerate(job.columns):
        values = [row[place] for row in job.sample if place < len(row) and row[place]]
        target = targets[place]
        found.append(
            {
                "name": name,
                "values": values[:3],
                "target": target,
                "new": clean(name),
                "kind": csv_import.looks_like(values),
            }
        )
    return found


def clean(name: str) -> str:
    """What an attribute made of a column would be called."""
    return name.replace(".", " ").replace("$", " ").strip()[:190]


def choices(job: Import) -> list[tuple[str, str]]:
    """What a column can be."""
    if job.kind == ImportKind.UNSUBSCRIBED:
        return [("email", "Email")]
    attributes = CustomAttribute.objects.offered().filter(scope=Scope.CUSTOMER).order_by("name")
    return [
        *((target.name, target.label) for target in csv_import.TARGETS.values()),
        *((f"{CUSTOM}{attribute.name}", f"Attribute {attribute.name}") for attribute in attributes),
    ]


def says(job: Import) -> list[str]:
    """What it would do, or did, in words."""
    done = job.state in (ImportState.WRITING, ImportState.DONE, ImportState.CANCELLED)
    if job.kind == ImportKind.UNSUBSCRIBED:
        found = [
            (job.changed, "address gets", "addresses get", " no more email" if done else " no more email from then on"),
            (job.unchanged, "address was", "addresses were", " unsubscribed already, or twice in the file"),
            (job.nobody, "address belongs", "addresses belong", " to nobody here, so nothing is done about them"),
        ]
    else:
        found = [
            (job.made, "new customer", "new customers", ""),
            (job.changed, "customer", "customers", " changed" if done else " would change"),
            (job.unchanged, "customer", "customers", " with nothing new"),
        ]
    found.append(
        (job.wrong, "line has", "lines have", " an error and " + ("were" if done else "would be") + " left out")
    )
    return [f"{counted(number, one, many)}{rest}." for number, one, many, rest in found if number]

"""A full disk, of this machine or of the database, is explained on the page and in the API, and is not a 500."""

from pathlib import Path

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.files.storage import FileSystemStorage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError
from django.test import Client
from rest_framework.test import APIClient

from audiences import intake
from audiences.api.base import errors
from audiences.models import Integration

pytestmark = pytest.mark.django_db
UPLOAD = "/admin/messaging/message/pictures/"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def write_to_a_full_disk(*_file: object) -> None:
    """Let the kernel raise the error."""
    with Path("/dev/full").open("wb") as full:
        full.write(PNG)


def fail_for_a_full_database(*_given: object, **_named: object) -> None:
    raise OperationalError("could not extend file") from psycopg.errors.DiskFull("No space left on device")


def test_image_that_the_disk_has_no_room_for_is_refused_with_the_reason_and_stored_once_there_is(
    admin_user, monkeypatch, settings, tmp_path
):
    settings.MEDIA_ROOT = str(tmp_path)
    console = Client(raise_request_exception=False)
    console.force_login(admin_user)

    def upload() -> object:
        return console.post(UPLOAD, {"file": SimpleUploadedFile("cat.png", PNG)})

    with monkeypatch.context() as full:
        full.setattr(FileSystemStorage, "_save", write_to_a_full_disk)
        refused = upload()

    assert (refused.status_code, refused.json()) == (503, {"wrong": errors.DISK_FULL})
    assert upload().status_code == 200


def test_page_for_a_full_database_says_so(admin_client, monkeypatch):
    monkeypatch.setattr("outbound.composer.images.store_image", fail_for_a_full_database)
    found = admin_client.post(
        UPLOAD,
        {"file": SimpleUploadedFile("cat.png", PNG)},
        headers={"Accept": "text/html"},
    )

    assert found.status_code == 503
    assert "<h1>The disk is full</h1>" in found.content.decode()
    assert errors.DISK_FULL in found.content.decode()


def test_api_call_for_a_full_database_is_a_503_with_the_reason(monkeypatch):
    monkeypatch.setattr(intake, "identify", fail_for_a_full_database)
    account = User.objects.create(username="the shop")
    _, token = Integration.objects.create(user=account, name="the shop")
    answered = APIClient().post("/api/users", {"user_id": "ann"}, format="json", HTTP_AUTHORIZATION=f"Bearer {token}")

    assert answered.status_code == 503
    assert answered.json()["errors"][0]["message"] == errors.DISK_FULL

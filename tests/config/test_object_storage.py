"""Object storage: files go to a private bucket, and are served as from the folder."""

import io
import json
import zipfile

import boto3
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from moto import mock_aws

from config.environment import storage
from delivery.conversations import attachments, threads
from delivery.customers import export
from outbound.composer import images
from tests.factories import CustomerFactory
from tests.support.fresh_settings import execute_settings, load_settings

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
HTML = b"<script>alert(1)</script>"
WITHOUT_LIBRARY = "import sys; sys.modules['storages'] = None; "


@pytest.fixture
def bucket(settings, monkeypatch):
    """A bucket of moto, and files go to its folder."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("MEDIA_BUCKET", "files/outbound/")
    with mock_aws():
        made = boto3.resource("s3").create_bucket(Bucket="files")
        settings.STORAGES = storage.read_storage("MEDIA_BUCKET")
        yield made


def addresses(settings) -> list[str]:
    """Store an image of a message, an image and a file of a conversation; return their paths."""
    image = SimpleUploadedFile("cat.png", PNG, "text/html")
    page = attachments.store_file(SimpleUploadedFile("page.html", HTML, "text/html"))
    shown = attachments.store_image(image, attachments.check_image(image))
    own = images.store_image(SimpleUploadedFile("logo.png", PNG, "text/html"))
    return [own, *(entry["url"].removeprefix(settings.PUBLIC_URL) for entry in (shown, page))]


def served(client, path: str) -> tuple[bytes, dict[str, object]]:
    answer = client.get(path)
    assert answer.status_code == 200
    policy = sorted(answer.headers["Content-Security-Policy"].replace(";", " ").split())
    return answer.getvalue(), {**answer.headers, "Content-Security-Policy": policy}


@pytest.mark.django_db
def test_files_of_a_bucket_are_served_with_the_headers_of_those_in_a_folder(client, settings, tmp_path, bucket):
    paths = addresses(settings)
    in_bucket = [served(client, path) for path in paths]
    for entry in bucket.objects.all():
        copy = tmp_path / entry.key.removeprefix("outbound/")
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(entry.get()["Body"].read())
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"}}
    settings.MEDIA_ROOT = tmp_path
    in_folder = [served(client, path) for path in paths]

    assert [content for content, _ in in_bucket] == [PNG, PNG, HTML]
    assert in_bucket == in_folder


@pytest.mark.django_db
def test_objects_are_private_downloads_whatever_type_the_sender_claimed(settings, bucket):
    addresses(settings)

    found = list(bucket.objects.all())
    assert len(found) == 3
    for entry in found:
        assert entry.key.startswith(("outbound/conversations/", "outbound/pictures/"))
        stored = entry.get()
        assert (stored["ContentType"], stored["ContentDisposition"]) == ("application/octet-stream", "attachment")
        grantees = {grant["Grantee"]["Type"] for grant in entry.Acl().grants}
        assert grantees == {"CanonicalUser"}


@pytest.mark.django_db
def test_missing_object_is_a_page_that_is_not_found(client, bucket):
    paths = [f"/pictures/{'a' * 22}.png", f"/messenger/images/{'0' * 32}.png", f"/messenger/files/{'0' * 32}/a.txt"]

    assert [client.get(path).status_code for path in paths] == [404, 404, 404]


@pytest.mark.django_db
def test_export_of_a_customer_holds_the_files_and_erasure_deletes_the_objects(settings, bucket):
    customer = CustomerFactory(email="ada@x.example")
    entry = attachments.store_file(SimpleUploadedFile("notes.txt", b"hello", "text/plain"))
    threads.open_by_customer(customer, body="See the file.", at=timezone.now(), attachments=[entry])

    file, ending = export.export(customer, at=timezone.now())
    attachments.delete_unused_files([entry])

    with zipfile.ZipFile(io.BytesIO(file.read())) as bundle:
        assert bundle.read("files/1-notes.txt") == b"hello"
        assert json.loads(bundle.read("customer.json"))["customer"] == customer.pk
    assert ending == "zip"
    assert list(bucket.objects.all()) == []
    assert not default_storage.exists(attachments.attachment_storage_path(entry))


def test_bucket_without_the_library_stops_the_start_with_the_command_to_run():
    refused = load_settings(WITHOUT_LIBRARY, MEDIA_BUCKET="files")

    assert refused.returncode == 1
    assert "ImproperlyConfigured: MEDIA_BUCKET is set, but" in refused.stderr
    assert "python -m pip install --require-hashes -r requirements-extras.lock" in refused.stderr
    assert load_settings(WITHOUT_LIBRARY).returncode == 0


def test_bucket_may_have_a_folder_and_other_servers_are_asked_by_path():
    plain = execute_settings(MEDIA_BUCKET="files")["STORAGES"]["default"]["OPTIONS"]
    other = execute_settings(MEDIA_BUCKET="files/a/b", AWS_ENDPOINT_URL_S3="http://minio.internal:9000")
    options = other["STORAGES"]["default"]["OPTIONS"]

    assert (plain["bucket_name"], plain["location"], options["location"]) == ("files", "", "a/b")
    styles = [each["client_config"].s3["addressing_style"] for each in (plain, options)]
    assert styles == ["auto", "path"]
    for wrong in ("Files", "files bucket", "a", "files/ä"):
        with pytest.raises(ImproperlyConfigured, match=r"^MEDIA_BUCKET must be"):
            execute_settings(MEDIA_BUCKET=wrong)

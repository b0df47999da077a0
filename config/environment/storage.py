"""Storage of uploaded files: a folder, or a private bucket with the interface of S3."""

import os
import re
from typing import Any

from config.environment.extras import require_package
from config.environment.variables import refusal

BUCKET = re.compile(r"(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<folder>[\w./-]*))?", re.ASCII)
# The SDK reads its address, region and keys from the standard AWS_* variables.
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
# In seconds. By default the SDK waits for minutes, and a web thread with it.
CONNECT_TIMEOUT, READ_TIMEOUT, ATTEMPTS = 5, 20, 2
MAX_BYTES_IN_MEMORY = 2**20


def read_storage(name: str) -> dict[str, Any]:
    """Return Django's STORAGES: files go to the bucket that the variable names, or else to MEDIA_ROOT."""
    given = os.environ.get(name, "").strip()
    default: dict[str, Any] = {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    if given:
        found = BUCKET.fullmatch(given)
        if found is None:
            raise refusal(name, "the name of a bucket, or a bucket and a folder such as files/outbound", given)
        require_package(name, module="storages.backends.s3", package="django-storages", lock="requirements-extras.lock")
        require_package(name, module="boto3", package="boto3", lock="requirements-extras.lock")
        default = {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": bucket_options(**found.groupdict(default="")),
        }
    return {"default": default, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}


def bucket_options(*, bucket: str, folder: str) -> dict[str, Any]:
    from botocore.config import Config

    return {
        "bucket_name": bucket,
        "location": folder.strip("/"),
        # Only web processes serve the files. If an object's own address leaks, browsers neither show nor run it,
        # whatever type its sender claimed.
        "object_parameters": {"ContentType": "application/octet-stream", "ContentDisposition": "attachment"},
        "max_memory_size": MAX_BYTES_IN_MEMORY,
        "client_config": Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            # Servers other than Amazon's seldom have a host name for each bucket.
            s3={"addressing_style": "path" if any(os.environ.get(each) for each in ENDPOINTS) else "auto"},
        ),
    }

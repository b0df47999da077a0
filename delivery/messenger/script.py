"""The resources that a website loads: messenger.js, its snippet, images and files of conversations.

messenger.js is the concatenation of the scripts in `static/messenger`; there is no build step. Each script is a
function that receives the namespace object `messenger` and adds its public names to it.
"""

import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers
from django.utils.http import parse_etags
from django.views.decorators.http import require_safe

from delivery.conversations import attachments

# In this order: each script uses names of the scripts before it while it loads, and of all scripts once it runs.
FILES = (
    *("storage.js", "api.js", "sanitize.js", "dom.js", "state.js"),
    *("launcher.js", "list.js", "thread.js", "composer.js", "panel.js", "announcement.js"),
    *("conversations.js", "visits.js", "commands.js"),
)
STYLE = "messenger.css"
# A second copy on the same page does nothing.
PROLOGUE = '(function () {\n"use strict";\nif (window.Outbound && window.Outbound.loaded) return;\ntry {'
# On a page with broken built-ins there is no messenger, but no error of ours either.
EPILOGUE = '} catch (problem) {\nwindow.console && console.warn("Outbound:", problem);\n}\n})();\n'
# Most page views need no request, and a new version reaches all browsers within minutes.
CACHE_CONTROL = "public, max-age=300, stale-while-revalidate=86400"


@dataclass(frozen=True, slots=True)
class Script:
    """messenger.js as it is served."""

    plain: bytes
    zipped: bytes
    etag: str


def compact(script: str) -> str:
    """Return a script without indentation and comment lines. No string in these scripts spans two lines."""
    lines = (line.strip() for line in script.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


@cache
def script_of(changed: tuple[int, ...]) -> Script:
    """Build messenger.js, once for each state of its files."""
    style = json.dumps(read_asset(STYLE))
    source = "\n".join(
        [PROLOGUE, f"const messenger = {{ STYLE: {style} }};", *(compact(read_asset(name)) for name in FILES), EPILOGUE]
    )
    plain = source.encode()
    return Script(plain, gzip.compress(plain, 9, mtime=0), f'"{hashlib.sha256(plain).hexdigest()[:20]}"')


def asset_path(name: str) -> Path:
    where = finders.find(f"messenger/{name}")
    if not where:
        raise Http404("A file of the messenger is missing.")
    return Path(str(where))


def read_asset(name: str) -> str:
    return asset_path(name).read_text("utf-8")


def asset_versions() -> tuple[int, ...]:
    """Return a key that changes with the files. In production they never change, so nothing is read."""
    return tuple(asset_path(name).stat().st_mtime_ns for name in (STYLE, *FILES)) if settings.DEBUG else ()


@require_safe
def script(request: HttpRequest) -> HttpResponse:
    """Serve messenger.js at its permanent URL."""
    current = script_of(asset_versions())
    headers = {"ETag": current.etag, "Cache-Control": CACHE_CONTROL, "Cross-Origin-Resource-Policy": "cross-origin"}
    if current.etag in parse_etags(request.headers.get("If-None-Match", "").replace("W/", "")):
        response = HttpResponse(status=304, headers=headers)
    else:
        zipped = "gzip" in request.headers.get("Accept-Encoding", "")
        body = current.zipped if zipped else current.plain
        response = HttpResponse(body, content_type="text/javascript; charset=utf-8", headers=headers)
        if zipped:
            response["Content-Encoding"] = "gzip"
    patch_vary_headers(response, ("Accept-Encoding",))
    return response


def snippet(*, address: str, settings_of: str = "") -> str:
    """Return the snippet for a website's pages: it loads messenger.js from `address` and queues calls until then."""
    return render_to_string("messenger/snippet.html", {"address": address.rstrip("/"), "settings": settings_of}).strip()


@require_safe
def image(request: HttpRequest, name: str) -> FileResponse:
    """Serve an image of a conversation, with headers that allow nothing but showing it. Its name is unguessable."""
    kept = attachments.open_image(name)
    if kept is None:
        raise Http404("Image not found.")
    file, content_type = kept
    return FileResponse(
        file,
        content_type=content_type,
        headers={
            "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cross-Origin-Resource-Policy": "cross-origin",
        },
    )


@require_safe
def file(request: HttpRequest, key: str, name: str) -> FileResponse:
    """Serve a file of a conversation as a download, which browsers neither show nor run. Its URL is unguessable."""
    kept = attachments.open_file(key, name)
    if kept is None:
        raise Http404("File not found.")
    return FileResponse(
        kept,
        as_attachment=True,
        filename=name,
        content_type=attachments.BINARY_TYPE,
        headers={
            "Cache-Control": "private, no-store",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
        },
    )

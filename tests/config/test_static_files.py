"""The URL of static files changes with their contents."""

from django.conf import settings
from django.templatetags.static import static

from config.static_files import digest_of_files


def test_digest_changes_with_a_files_content_and_name(tmp_path):
    (tmp_path / "folder").mkdir()
    script = tmp_path / "folder" / "main.js"
    script.write_text("1")
    digests = [digest_of_files(tmp_path)]
    script.write_text("2")
    digests.append(digest_of_files(tmp_path))
    script.rename(tmp_path / "main.js")
    digests.append(digest_of_files(tmp_path))

    assert len(set(digests)) == 3
    assert digest_of_files(tmp_path) == digests[-1]


def test_scripts_are_served_below_the_digest_of_our_files(client):
    digest = digest_of_files(settings.BASE_DIR / "static")

    assert static("outbound/console/main.js") == f"/static/{digest}/outbound/console/main.js"
    served = client.get(static("outbound/console/main.js"))
    assert served.status_code == 200
    assert b"./session.js" in b"".join(served.streaming_content)
    assert client.get("/static/outbound/console/main.js").status_code == 404

"""The worked examples of docs/examples.md, run with curl, Python and Node against a real server."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audiences.models import Customer, Event, Integration, Workspace
from delivery.models import ConversationPart
from messaging.models import Message
from outbound import roles
from tests.factories import SenderFactory

pytestmark = pytest.mark.django_db(transaction=True)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "examples.md"
LANGUAGES = {
    "bash": ("bash", "-euo", "pipefail", "-c"),
    "python": (sys.executable, "-c"),
    "javascript": ("node", "--input-type=module", "-e"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_examples_of_a_language_run_as_one_program_and_do_what_they_say(
    language, live_server, settings, django_user_model
):
    command = LANGUAGES[language]
    needed = ["curl", command[0]] if language == "bash" else command[:1]
    if missing := [program for program in needed if not shutil.which(program)]:
        pytest.skip(f"{missing[0]} is not installed")
    settings.API_RATE_LIMIT = 0
    Workspace.current()
    ada = django_user_model.objects.create(username="ada", email="ada@acme.example", is_staff=True)
    roles.install()
    roles.give_role(ada, roles.Role.AUTHOR)
    SenderFactory(teammate=ada)
    token = Integration.issue(name="The shop", teammate=ada)[1]
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) >= 5

    done = subprocess.run(  # noqa: S603 - our own document
        [*command, "\n".join(blocks)],
        env={**os.environ, "OUTBOUND_URL": live_server.url, "TOKEN": token},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    user = Customer.objects.get(user_id="25")
    assert (user.attributes, user.companies.get().name) == ({"plan": "pro"}, "Acme")
    assert Event.objects.get().name == "ordered-item"
    direct, audience = Message.objects.to_one_person().get(), Message.objects.to_audiences().get()
    assert (direct.to_customer, audience.state, audience.channel) == (user, "live", "in_app")
    assert ConversationPart.objects.get().teammate == ada

"""The options of the database connection."""

import pytest
from django.db import connection

pytestmark = pytest.mark.django_db


def test_server_that_vanishes_is_noticed_within_10_seconds():
    connection.ensure_connection()
    told = connection.connection.info.get_parameters()

    assert int(told["keepalives_idle"]) + int(told["keepalives_interval"]) * int(told["keepalives_count"]) <= 10
    assert int(told["tcp_user_timeout"]) <= 10_000

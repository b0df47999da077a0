"""Mobile push: FCM_CREDENTIALS need the optional package firebase-admin."""

from tests.support.fresh_settings import load_settings

WITHOUT_LIBRARY = "import sys; sys.modules['firebase_admin'] = None; "


def test_credentials_without_the_library_stop_the_start_with_the_command_to_run():
    refused = load_settings(WITHOUT_LIBRARY, FCM_CREDENTIALS="{}")

    assert refused.returncode == 1
    assert "ImproperlyConfigured: FCM_CREDENTIALS is set, but" in refused.stderr
    assert "python -m pip install --require-hashes -r requirements-push.lock" in refused.stderr


def test_neither_credentials_nor_library_are_required():
    assert load_settings(WITHOUT_LIBRARY).returncode == 0
    assert load_settings("", FCM_CREDENTIALS="{}").returncode == 0

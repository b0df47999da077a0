from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class ConfigConfig(AppConfig):
    name = "config"

    def ready(self) -> None:
        from config.postgres import sessions

        sessions.install()


class ConsoleAdminConfig(AdminConfig):
    """Django's admin with the console's site."""

    default_site = "outbound.console.navigation.ConsoleSite"

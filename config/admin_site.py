"""The configuration of Django's admin: it uses the console's site."""

from django.contrib.admin.apps import AdminConfig


class ConsoleAdminConfig(AdminConfig):
    default_site = "outbound.console.navigation.ConsoleSite"

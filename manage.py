#!/usr/bin/env python
"""Run a management command, on the embedded database where DATABASE_URL names no other."""

import os
import sys

from config.postgres import embedded


def main() -> None:
    """Start the embedded PostgreSQL if it is needed and not running yet, then do what the command line says."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    with embedded.database():
        execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()

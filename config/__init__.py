"""The composition root: settings, urls, celery, wsgi and the services embedded for a machine that has none."""

from config.celery import app as celery_app

__all__ = ["celery_app"]

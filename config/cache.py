"""A cache in Redis that is done without while Redis is away: what it counts and keeps is worth no error page."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


def otherwise(nothing: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Answer this, as an empty cache would, where Redis cannot be asked; an exception is raised."""

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def asked(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except RedisError as wrong:
                log.warning("the cache cannot be reached: %s", wrong)
            if isinstance(nothing, Exception):
                raise nothing
            return nothing

        return asked

    return decorate


class Cache(RedisCache):
    """Django's, forgiving."""

    add = otherwise(nothing=False)(RedisCache.add)
    set = otherwise(nothing=None)(RedisCache.set)
    touch = otherwise(nothing=False)(RedisCache.touch)
    delete = otherwise(nothing=False)(RedisCache.delete)
    has_key = otherwise(nothing=False)(RedisCache.has_key)
    # As where it was dropped in between.
    incr = otherwise(nothing=ValueError("The cache cannot be reached."))(RedisCache.incr)

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return what is kept, or `default`."""
        try:
            return super().get(key, default=default, version=version)
        except RedisError as wrong:
            log.warning("the cache cannot be reached: %s", wrong)
            return default

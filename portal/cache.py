"""A cache that is as good as empty while Redis is away, for what must go on without it."""

import logging
from collections.abc import Mapping
from typing import Any

from django.core.cache.backends.redis import RedisCache
from redis import RedisError

log = logging.getLogger("berth.cache")


class ForgivingRedisCache(RedisCache):
    """Readings of GPUs may be lost; the exchange that brings them, and with it a node's lease, may not."""

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        try:
            return super().get(key, default, version)
        except RedisError as error:
            log.info("the cache is away: %s", error)
            return default

    def add(self, key: Any, value: Any, timeout: Any = None, version: int | None = None) -> bool:
        try:
            return bool(super().add(key, value, timeout, version))
        except RedisError as error:
            log.info("the cache is away: %s", error)
            return False

    def get_or_set(self, key: Any, default: Any, timeout: Any = None, version: int | None = None) -> Any:
        found = self.get(key, None, version)
        if found is None:
            found = default() if callable(default) else default
            self.add(key, found, timeout, version)
        return found

    def get_many(self, keys: Any, version: int | None = None) -> dict[Any, Any]:
        try:
            return super().get_many(keys, version)
        except RedisError as error:
            log.info("the cache is away: %s", error)
            return {}

    def set_many(self, data: Mapping[Any, Any], timeout: Any = None, version: int | None = None) -> list[Any]:
        try:
            return list(super().set_many(dict(data), timeout, version))
        except RedisError as error:
            log.info("the cache is away: %s", error)
            return list(data)

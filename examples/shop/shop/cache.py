"""Django's cache, counted under django-prometheus's names, and the keys the shop uses."""

import uuid

from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from prometheus_client import CollectorRegistry, Counter, disable_created_metrics

from shop.faults import switches

disable_created_metrics()
registry = CollectorRegistry()
_LABELS = ["backend"]
GETS = Counter("django_cache_get", "Total get requests on cache", _LABELS, registry=registry)
HITS = Counter("django_cache_get_hits", "Total hits on cache", _LABELS, registry=registry)
MISSES = Counter("django_cache_get_misses", "Total misses on cache", _LABELS, registry=registry)
_BACKEND = "locmem"


class CountingLocMemCache(LocMemCache):
    """Counts gets, hits and misses."""

    def __init__(self, name, params):
        super().__init__(name, params)
        self._gets = GETS.labels(_BACKEND)
        self._hits = HITS.labels(_BACKEND)
        self._misses = MISSES.labels(_BACKEND)

    def get(self, key, default=None, version=None):
        """As Django's, and counted."""
        missing = object()
        value = super().get(key, missing, version)
        self._gets.inc()
        if value is missing:
            self._misses.inc()
            return default
        self._hits.inc()
        return value


def remembered(key, compute, timeout=300):
    """A value from the cache, computed and kept when it is not there."""
    if switches.on("cache_keys"):
        key = f"{key}:{uuid.uuid4()}"
    value = cache.get(key)
    if value is None:
        value = compute()
        cache.set(key, value, timeout)
    return value

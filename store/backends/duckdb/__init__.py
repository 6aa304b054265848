"""The embedded store: telemetry in one DuckDB file."""

from store.backends.duckdb.limits import StoreLimits
from store.backends.duckdb.place import is_in_use
from store.backends.duckdb.recovery import Found, Recovery
from store.backends.duckdb.retention import Retained
from store.backends.duckdb.store import DuckDBStore, StoreStats
from store.backends.duckdb.warm import warm_kernels

__all__ = [
    "DuckDBStore",
    "Found",
    "Recovery",
    "Retained",
    "StoreLimits",
    "StoreStats",
    "is_in_use",
    "warm_kernels",
]

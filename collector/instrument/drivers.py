"""The instrumentations a Django shop may have, in one table. Absent ones are skipped."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import Any

_log = logging.getLogger(__name__)

# Library, and the module and class that instrument it.
DRIVERS: tuple[tuple[str, str, str], ...] = (
    ("sqlite3", "opentelemetry.instrumentation.sqlite3", "SQLite3Instrumentor"),
    ("pymysql", "opentelemetry.instrumentation.pymysql", "PyMySQLInstrumentor"),
    ("MySQLdb", "opentelemetry.instrumentation.mysqlclient", "MySQLClientInstrumentor"),
    ("mysql.connector", "opentelemetry.instrumentation.mysql", "MySQLInstrumentor"),
    ("psycopg", "opentelemetry.instrumentation.psycopg", "PsycopgInstrumentor"),
    ("psycopg2", "opentelemetry.instrumentation.psycopg2", "Psycopg2Instrumentor"),
    ("redis", "opentelemetry.instrumentation.redis", "RedisInstrumentor"),
    ("celery", "opentelemetry.instrumentation.celery", "CeleryInstrumentor"),
    ("requests", "opentelemetry.instrumentation.requests", "RequestsInstrumentor"),
    ("httpx", "opentelemetry.instrumentation.httpx", "HTTPXClientInstrumentor"),
)


def instrument_drivers(**providers: Any) -> tuple[str, ...]:
    """Instrument every installed driver and client that has its instrumentation installed.

    Returns the libraries instrumented. A library without its instrumentation is named in the log,
    since its spans will be missing.
    """
    done = []
    for library, module, name in DRIVERS:
        if not _installed(library):
            continue
        if not _installed(module):
            _log.info("%s is not traced: install %s", library, module.replace(".", "-"))
            continue
        instrumentor = getattr(importlib.import_module(module), name)()
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(**providers)
        done.append(library)
    return tuple(done)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is absent
        return False

"""SHOW GLOBAL STATUS and VARIABLES, and who is connected."""

from __future__ import annotations

import re

from collector.polling.contract import Reading, Sample, name_part
from collector.polling.mysql_client import Connection
from collector.polling.mysql_values import number_of
from store.model import MetricMetadata, MetricType

STATUS = "mysql_global_status_"
VARIABLE = "mysql_global_variables_"
_GROUPED = re.compile(
    r"(com|handler|connection_errors|innodb_buffer_pool_pages|innodb_rows|performance_schema)_(.*)"
)
# Group -> the metric, and the label that holds the rest of the name.
_GROUPS = {
    "com": ("mysql_global_status_commands_total", "command"),
    "handler": ("mysql_global_status_handlers_total", "handler"),
    "connection_errors": ("mysql_global_status_connection_errors_total", "error"),
    "innodb_rows": ("mysql_global_status_innodb_row_ops_total", "operation"),
    "performance_schema": (
        "mysql_global_status_performance_schema_lost_total",
        "instrumentation",
    ),
}
_PAGES = "mysql_global_status_buffer_pool_"
_STATES = frozenset({"data", "free", "misc", "old"})
_PROCESSES = (
    "SELECT COMMAND AS command, IFNULL(STATE, '') AS state, COUNT(*) AS threads, "
    "IFNULL(SUM(TIME), 0) AS seconds FROM information_schema.PROCESSLIST "
    "WHERE ID <> CONNECTION_ID() GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 200"
)
_WHO = (
    "SELECT {column} AS who, COUNT(*) AS threads FROM information_schema.PROCESSLIST "
    "WHERE ID <> CONNECTION_ID() GROUP BY 1 ORDER BY 2 DESC LIMIT 200"
)
_PROCESSLIST = "mysql_info_schema_processlist_"
_BY = (
    ("USER", "processes_by_user", "mysql_user"),
    (
        "IF(HOST = '', 'unknown', SUBSTRING_INDEX(HOST, ':', 1))",
        "processes_by_host",
        "client_host",
    ),
)
_MARKS = str.maketrans({" ": "_", "-": "_", **dict.fromkeys(";,:.()", "")})


def read_status(connection: Connection, reading: Reading) -> None:
    """`mysql_global_status_*`: untyped in the exporter, so untyped here, but for the groups."""
    for row in connection.query("SHOW GLOBAL STATUS"):
        name, text = row.values()
        value = number_of(text)
        if name is not None and value is not None:
            _status(reading, name_part(name), value)


def _status(reading: Reading, name: str, value: float) -> None:
    match = _GROUPED.fullmatch(name)
    if match is None:
        _untyped(reading, STATUS + name, value)
    elif match[1] in _GROUPS:
        metric, label = _GROUPS[match[1]]
        reading.counter(metric, value, {label: match[2]})
    elif match[2] in _STATES:
        reading.gauge(f"{_PAGES}pages", value, {"state": match[2]})
    elif match[2] == "dirty":
        reading.gauge(f"{_PAGES}dirty_pages", value)
    elif match[2] != "total":
        reading.counter(f"{_PAGES}page_changes_total", value, {"operation": match[2]})


def read_variables(connection: Connection, reading: Reading) -> None:
    """`mysql_global_variables_*` where they are numbers or switches, and the version."""
    texts: dict[str, str] = {}
    for row in connection.query("SHOW GLOBAL VARIABLES"):
        name, text = row.values()
        if name is None or text is None:
            continue
        texts[name_part(name)] = text
        value = number_of(text)
        if value is not None:
            _untyped(reading, VARIABLE + name_part(name), value)
    told = {key: texts.get(key, "") for key in ("innodb_version", "version", "version_comment")}
    reading.gauge("mysql_version_info", 1, told)
    level = texts.get("transaction_isolation") or texts.get("tx_isolation")
    if level:
        reading.gauge("mysql_transaction_isolation", 1, {"level": level})


def read_processes(connection: Connection, reading: Reading) -> None:
    """`mysql_info_schema_processlist_*`: what the connections do, and whose they are."""
    told: dict[tuple[str, str], list[float]] = {}
    for row in connection.query(_PROCESSES):
        figures = told.setdefault((_word(row["command"]), _word(row["state"])), [0.0, 0.0])
        for place, column in enumerate(("threads", "seconds")):
            figures[place] += number_of(row[column]) or 0.0
    for (command, state), (threads, seconds) in told.items():
        labels = {"command": command, "state": state}
        reading.gauge(f"{_PROCESSLIST}threads", threads, labels)
        reading.gauge(f"{_PROCESSLIST}seconds", seconds, labels)
    for column, name, label in _BY:
        for row in connection.query(_WHO.format(column=column)):
            threads = number_of(row["threads"]) or 0.0
            reading.gauge(_PROCESSLIST + name, threads, {label: row["who"] or ""})


def _word(text: str | None) -> str:
    """A command or a state as the exporter writes it."""
    return (text or "unknown").lower().translate(_MARKS)[:100]


def _untyped(reading: Reading, name: str, value: float) -> None:
    reading.add(MetricMetadata(name, MetricType.UNKNOWN), Sample(name, {}, value))

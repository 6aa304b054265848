"""The table mysql.slow_log: what the server itself found slow, where log_output holds TABLE."""

from __future__ import annotations

import re
from collections import Counter

from collector.polling.contract import Reading
from collector.polling.mysql_client import Connection, Row
from collector.polling.mysql_values import number_of

MAX_ROWS = 500  # as the statement says
MAX_STATEMENTS = 100
MAX_TEXT = 120
OTHER = "other"
_NOW = "SELECT CAST(NOW(6) AS CHAR) AS now"
# By the end: a statement is written when it ends, with the time at which it began.
_ROWS = (
    "SELECT CAST(ADDTIME(start_time, query_time) AS CHAR) AS ended, db AS `schema`, "
    "LEFT(sql_text, 4096) AS statement, "
    "TIMESTAMPDIFF(MICROSECOND, start_time, ADDTIME(start_time, query_time)) AS ran, "
    "TIMESTAMPDIFF(MICROSECOND, start_time, ADDTIME(start_time, lock_time)) AS locked, "
    "rows_examined AS examined, rows_sent AS sent FROM mysql.slow_log "
    "WHERE ADDTIME(start_time, query_time) > %s ORDER BY 1 LIMIT 500"
)
# Column -> the metric's rest, and what one is in its unit.
_COUNTERS = {
    "ran": ("query_seconds_total", 1e-6),
    "locked": ("lock_seconds_total", 1e-6),
    "examined": ("rows_examined_total", 1.0),
    "sent": ("rows_sent_total", 1.0),
}
_ALIKE = re.compile(
    r"""/\*.*?(?:\*/|$)|(?:--\s|\#)[^\n]*"""  # a comment
    # A text, also one that was cut off.
    r"""|'(?:[^'\\]|\\(?:.|$)|'')*(?:'|$)|"(?:[^"\\]|\\(?:.|$)|"")*(?:"|$)"""
    r"""|\b0x[0-9a-f]+\b|(?<![\w`.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?\b""",  # a number
    re.IGNORECASE | re.DOTALL,
)
_LIST = re.compile(r"\(\s*\?(?:\s*,\s*\?)*\s*\)")
_LISTS = re.compile(r"\(\?\)(?:\s*,\s*\(\?\))+")


def alike(statement: str) -> str:
    """A statement without its values, so that none is kept and like ones count together.

    >>> alike("SELECT * FROM t1 WHERE a = 'x' AND b IN (1, 2,3) -- by hand")
    'SELECT * FROM t1 WHERE a = ? AND b IN (?)'
    """
    bare = _ALIKE.sub(
        lambda match: "" if match[0][0] in "/#" or match[0][:2] == "--" else "?", statement
    )
    bare = _LISTS.sub("(?)", _LIST.sub("(?)", bare))
    return " ".join(bare.split())[:MAX_TEXT]


class SlowLog:
    """Counts what was written since the first poll, by database and statement.

    The table has no index, so that reading it costs the server a scan: keep it short.
    """

    def __init__(self) -> None:
        self._read_to = ""
        self._totals: dict[tuple[str, str], Counter[str]] = {}

    def read(self, connection: Connection, reading: Reading) -> None:
        """`mysql_slow_log_*{schema,statement}`.

        Raises:
            Denied: The account may not read the table.
            Absent: There is none.
        """
        if not self._read_to:
            (now,) = connection.query(_NOW)
            # Asked even so: a right that lacks is told at the first poll.
            connection.query(_ROWS, (now["now"] or "",))
            self._read_to = now["now"] or ""
            return
        rows = connection.query(_ROWS, (self._read_to,))
        for row in rows:
            self._count(row)
            self._read_to = row["ended"] or self._read_to
        if len(rows) >= MAX_ROWS:
            more = f"more than {MAX_ROWS} statements since the last poll"
            reading.lacks("slow log", more, "Raise long_query_time, or poll more often.")
        for (schema, statement), totals in self._totals.items():
            labels = {"schema": schema, "statement": statement}
            reading.counter("mysql_slow_log_queries_total", totals["queries"], labels)
            for column, (name, scale) in _COUNTERS.items():
                reading.counter(f"mysql_slow_log_{name}", totals[column] * scale, labels)

    def _count(self, row: Row) -> None:
        key = row["schema"] or "", alike(row["statement"] or "")
        if key not in self._totals and len(self._totals) >= MAX_STATEMENTS:
            key = OTHER, OTHER
        totals = self._totals.setdefault(key, Counter())
        totals["queries"] += 1
        for column in _COUNTERS:
            totals[column] += int(number_of(row[column]) or 0)

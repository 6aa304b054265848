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
_COUNT = "SELECT COUNT(*) AS written FROM mysql.slow_log"
# By their place: the table is only ever added to, or emptied. Its times cannot be compared: each
# was written as text on the clock of the session that ran the statement.
_ROWS = (
    "SELECT db AS `schema`, LEFT(sql_text, 4096) AS statement, "
    "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'2000-01-01 00:00:00', "
    "ADDTIME(TIMESTAMP'2000-01-01 00:00:00', query_time)) AS ran, "
    "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'2000-01-01 00:00:00', "
    "ADDTIME(TIMESTAMP'2000-01-01 00:00:00', lock_time)) AS locked, "
    "rows_examined AS examined, rows_sent AS sent FROM mysql.slow_log LIMIT 500 OFFSET {read}"
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

    A table that became shorter was emptied: then it is read from its begin.

    The table has no index, so that reading it costs the server a scan: keep it short.
    """

    def __init__(self) -> None:
        self._read: int | None = None
        self._totals: dict[tuple[str, str], Counter[str]] = {}

    def read(self, connection: Connection, reading: Reading) -> None:
        """`mysql_slow_log_*{schema,statement}`.

        Raises:
            Denied: The account may not read the table.
            Absent: There is none.
        """
        (answer,) = connection.query(_COUNT)
        written = int(number_of(answer["written"]) or 0)
        if self._read is None:
            self._read = written
            return
        if written < self._read:
            self._read = 0
        rows = connection.query(_ROWS.format(read=self._read))
        self._read += len(rows)
        for row in rows:
            self._count(row)
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

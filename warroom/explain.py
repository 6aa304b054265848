"""`warroom explain`: the plans of the dearest statements of one polled database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from collector.pollers.mysql.explain import Explained
from collector.pollers.mysql.poller import MysqlPoller
from store.errors import WarroomError
from warroom.config import Options, load
from warroom.poll import poll_targets

Show = Callable[[str], None]


def explain(options: Options, name: str, limit: int, show: Show) -> int:
    """Print what each statement reads, the dearest first.

    Raises:
        WarroomError: The configuration is wrong, names no such poller, or the server refuses.
    """
    targets = poll_targets(load(options))
    pollers = {target.name: target for target in targets if target.type == "mysql"}
    if name not in pollers:
        known = ", ".join(sorted(pollers)) or "none"
        raise WarroomError(f"no poller of type mysql has the name {name!r}", hint=f"known: {known}")
    poller = pollers[name].make()
    if not isinstance(poller, MysqlPoller):
        raise WarroomError(f"{name} has nothing to explain")
    plans = asyncio.run(poller.explain(limit))
    for plan in plans:
        show(_line(plan))
    if not plans:
        show("no statement is known: performance_schema or its statement history is off")
    return 0


def _line(plan: Explained) -> str:
    told = "; ".join(
        f"{table}: {'full scan' if access == 'ALL' else access}, {rows:g} rows"
        for table, access, rows in plan.tables
    )
    return f"{plan.digest}  {plan.schema}  {plan.error or told or 'reads no table'}"

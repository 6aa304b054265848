"""What may be set of the detectors, checked at the start.

Every kind's settings are one frozen dataclass beside its detector; here they meet the
`detectors:` section of the configuration.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_type_hints

from store.errors import ConfigError

T = TypeVar("T")
_TIMES = ("_s", "_ms", "_us")


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """When repeats of one shape under one parent are a loop worth telling.

    Attributes:
        min_repetitions: Fewest repeats.
        min_union_ms: Least time that the repeats cover together.
        min_share: Least part of the request that they cover, from 0 to 1.
        min_each_us: Cache commands that take less on average come from the process's own memory.
        chunk_min_size: Median length of an IN list from which the repeats are batches already.
        partition_columns: A query for each value of these is legitimate (tenants, shards).
    """

    min_repetitions: int = 5
    min_union_ms: float = 1.0
    min_share: float = 0.03
    min_each_us: float = 50.0
    chunk_min_size: int = 5
    partition_columns: tuple[str, ...] = (
        "tenant_id", "tenant", "tenant_uuid", "shard_id", "shard", "organization_id",
        "organisation_id", "org_id", "workspace_id", "partition_id", "partition",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.min_repetitions >= 2, "min_repetitions", "2 or more", self.min_repetitions)
        require(self.min_union_ms >= 0, "min_union_ms", "0 or more", self.min_union_ms)
        require(0 <= self.min_share < 1, "min_share", "from 0 to below 1", self.min_share)
        require(self.min_each_us >= 0, "min_each_us", "0 or more", self.min_each_us)
        require(self.chunk_min_size >= 2, "chunk_min_size", "2 or more", self.chunk_min_size)


@dataclass(frozen=True, slots=True)
class PrioritySettings:
    """When a trace finding may page (see `detectors.impact`).

    Attributes:
        hot_route_per_s: Requests a second from which a route is hot.
        page_repetitions: Fewest repeats of a loop that pages for its share of a hot route.
        page_weight: Repeats times wasted share of the request from which such a loop pages.
        page_hours_per_day: Wasted hours a day that page.
        urgent_hours_per_day: Wasted hours a day that are P0.
        felt_ms: Wasted time a request below which hours a day do not page.
    """

    hot_route_per_s: float = 0.5
    page_repetitions: int = 15
    page_weight: float = 1.0
    page_hours_per_day: float = 1.0
    urgent_hours_per_day: float = 24.0
    felt_ms: float = 50.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            require(value >= 0, field.name, "0 or more", value)


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How traces are gathered and how long a finding stays active.

    Attributes:
        settle_ms: Quiet time after a trace's root arrived, before it is judged.
        incomplete_after_ms: Quiet time after which a trace without root is judged as it is.
        resolve_after_s: A finding not seen for so long, though its route was used, has ended.
        forget_after_s: A finding whose route is not used any more has ended after so long.
        clean_requests: Requests of the route without the fault before it can have ended.
        fixed_after_s: Least time after which a finding that ended is proven fixed, by the traffic
            that went by without it.
        rate_window_s: Over how long request rates are measured.
        max_pending_spans: Spans held back at most; beyond, the oldest traces are judged at once.
        max_spans_per_tick: Spans read at most in one tick; the rest waits for the next.
    """

    settle_ms: int = 1_000
    incomplete_after_ms: int = 10_000
    resolve_after_s: float = 30.0
    forget_after_s: float = 900.0
    clean_requests: int = 3
    fixed_after_s: float = 3_600.0
    rate_window_s: float = 60.0
    max_pending_spans: int = 200_000
    max_spans_per_tick: int = 500_000

    def __post_init__(self) -> None:
        require(self.settle_ms >= 0, "settle_ms", "0 or more", self.settle_ms)
        require(self.clean_requests >= 1, "clean_requests", "1 or more", self.clean_requests)
        wait = self.incomplete_after_ms
        require(wait > self.settle_ms, "incomplete_after_ms", "more than settle_ms", wait)
        for name in (
            "resolve_after_s", "rate_window_s", "fixed_after_s", "max_pending_spans",
            "max_spans_per_tick",
        ):  # fmt: skip
            require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        forget = self.forget_after_s
        require(forget >= self.resolve_after_s, "forget_after_s", "resolve_after_s or more", forget)


def require(condition: bool, name: str, expected: str, value: object) -> None:  # noqa: FBT001
    """Refuse a setting.

    Raises:
        ConfigError: The condition does not hold.
    """
    if not condition:
        raise ConfigError(f"{name} is {value!r}", hint=f"write {expected}")


def change(defaults: T, data: Mapping[str, Any], where: str) -> T:
    """A settings dataclass with what plain data says otherwise.

    Raises:
        ConfigError: An unknown name, a wrong type or a value out of its bounds.
    """
    hints = get_type_hints(type(defaults))
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in hints:
            known = ", ".join(sorted(hints))
            raise ConfigError(f"{where}.{name} is no setting", hint=f"known here: {known}")
        inner = getattr(defaults, name)
        if dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
            values[name] = change(inner, value, f"{where}.{name}")
            continue
        values[name] = _cast(value, hints[name], f"{where}.{name}")
        _require_bounded(name, values[name], where)
    try:
        changed: T = dataclasses.replace(defaults, **values)  # type: ignore[type-var]
    except ConfigError as exc:
        raise ConfigError(f"{where}.{exc.problem}", hint=exc.hint) from exc
    return changed


def _require_bounded(name: str, value: object, where: str) -> None:
    """A threshold may be out of reach; a time must come to its end."""
    endless = isinstance(value, float) and not math.isfinite(value)
    if endless and name.endswith(_TIMES):
        raise ConfigError(f"{where}.{name} is {value}", hint="write a number that comes to an end")


def _cast(value: Any, expected: Any, where: str) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if expected is float and number:
        return float(value)
    if expected is int and number and float(value).is_integer():
        return int(value)
    if expected is str and isinstance(value, str):
        return value
    if expected is bool and isinstance(value, bool):
        return value
    if expected == tuple[str, ...] and isinstance(value, list | tuple):
        return tuple(str(item) for item in value)
    name = getattr(expected, "__name__", str(expected))
    raise ConfigError(f"{where} is {value!r}", hint=f"a value of type {name} is expected")

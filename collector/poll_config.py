"""The `pollers:` section of the configuration: every system that is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

from collector.poll_registry import POLLERS, PollerType
from collector.poll_runner import PollTarget
from collector.polling.fields import Fields, SecretReader
from store.documents import Document, Path

MAX_POLLERS = 500
MIN_INTERVAL_S = 1.0
_DEFAULT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Common:
    """What every entry has, whatever its type."""

    name: str
    job: str
    interval_s: float
    timeout_s: float
    labels: Mapping[str, str] = field(default_factory=dict)


def parse_pollers(
    document: Document, path: Path, *, read_secret: SecretReader
) -> tuple[PollTarget, ...]:
    """The pollers listed at a path of a document, such as `("pollers",)`.

    Args:
        document: The configuration.
        path: Where the list is.
        read_secret: Reads what `*_env` and `*_file` fields name.

    Raises:
        ConfigError: With file, line, and what to write instead.
    """
    found = document.data
    for step in path:
        found = found.get(step) if isinstance(found, dict) else found[step]
    if not found:
        return ()
    if not isinstance(found, list) or len(found) > MAX_POLLERS:
        raise document.error(path, f"a list of at most {MAX_POLLERS} pollers is expected here")
    targets: dict[str, PollTarget] = {}
    for place, entry in enumerate(found):
        fields = Fields(document, (*path, place), entry, read_secret=read_secret)
        target = _target(fields)
        if target.key in targets:
            raise fields.error(
                "name", f"{target.key} stands twice", hint="give each a name of its own"
            )
        targets[target.key] = target
    return tuple(targets.values())


def _target(fields: Fields) -> PollTarget:
    type_name, kind = _type(fields)
    common = _common(fields, type_name, kind)
    settings = kind.read(fields)
    fields.done()
    return PollTarget(
        type=type_name,
        name=common.name,
        labels={**common.labels, "job": common.job, "instance": common.name},
        interval_s=common.interval_s,
        timeout_s=common.timeout_s,
        secrets=tuple(fields.secrets),
        up_metric=kind.up_metric,
        settings=settings,
        make=partial(kind.make, settings, common.timeout_s),
    )


def _type(fields: Fields) -> tuple[str, PollerType]:
    name = fields.text("type")
    kind = POLLERS.get(name)
    if kind is None:
        raise fields.error(
            "type", f"there is no poller {name[:60]!r}", hint=f"known: {', '.join(sorted(POLLERS))}"
        )
    if kind.driver and not installed(kind.driver):
        raise fields.error(
            "type",
            f"the driver of {name} is not installed",
            hint=f"run: pip install 'warroom[{kind.extra}]'",
        )
    return name, kind


def installed(module: str) -> bool:
    """Whether a module can be imported; it is not imported."""
    return find_spec(module) is not None


def _common(fields: Fields, type_name: str, kind: PollerType) -> _Common:
    fallback: Any = fields.get("address", str, "") or fields.get("url", str, "") or type_name
    interval_s = fields.duration_s("interval", kind.interval_s)
    if interval_s < MIN_INTERVAL_S:
        raise fields.error("interval", "the shortest is 1s")
    timeout_s = fields.duration_s("timeout", min(_DEFAULT_TIMEOUT_S, interval_s))
    if timeout_s > interval_s:
        raise fields.error("timeout", "it is longer than the interval")
    return _Common(
        name=fields.text("name", fallback),
        job=fields.text("job", type_name),
        interval_s=interval_s,
        timeout_s=timeout_s,
        labels=fields.labels("labels"),
    )

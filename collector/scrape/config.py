"""Prometheus's `scrape_configs`, checked; a mistake names its line and what to write instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from collector.scrape.quantities import duration_s, size_bytes
from collector.scrape.relabel import Action, RelabelRule, compiled
from store.documents import Document, Path

DEFAULT_INTERVAL_S = 15.0
DEFAULT_TIMEOUT_S = 10.0
DEFAULT_BODY_SIZE = 64 * 1024 * 1024
MAX_TARGETS = 1_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StaticTargets:
    """Addresses that share labels."""

    addresses: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ScrapeLimits:
    """Bounds on one scrape; 0 is none, but for the body, which is always bounded."""

    samples: int = 0
    labels: int = 0
    label_name: int = 0
    label_value: int = 0
    body_bytes: int = DEFAULT_BODY_SIZE


@dataclass(frozen=True, slots=True)
class ScrapeConfig:
    """One job. The secret is kept out of its repr."""

    job_name: str
    interval_s: float
    timeout_s: float
    static_targets: tuple[StaticTargets, ...] = ()
    metrics_path: str = "/metrics"
    scheme: str = "http"
    params: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    honor_labels: bool = False
    honor_timestamps: bool = True
    follow_redirects: bool = True
    verify_tls: bool = True
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    authorization: str = field(default="", repr=False)
    limits: ScrapeLimits = ScrapeLimits()
    relabel: tuple[RelabelRule, ...] = ()
    metric_relabel: tuple[RelabelRule, ...] = ()


def parse_scrape_configs(document: Document, path: Path) -> tuple[ScrapeConfig, ...]:
    """The jobs listed at a path of a document, such as `("scrape_configs",)`.

    Raises:
        ConfigError: With file, line, and what to write instead.
    """
    found = document.data
    for step in path:
        found = found.get(step) if isinstance(found, dict) else found[step]
    if not found:
        return ()
    if not isinstance(found, list):
        raise document.error(path, "a list of scrape configurations is expected here")
    jobs = tuple(_job(_Node(document, (*path, place), job)) for place, job in enumerate(found))
    names: set[str] = set()
    for place, job in enumerate(jobs):
        if job.job_name in names:
            raise document.error(
                (*path, place, "job_name"), f"the job {job.job_name!r} stands twice"
            )
        names.add(job.job_name)
    return jobs


class _Node:
    """A mapping of the document; remembers which keys were asked for."""

    def __init__(self, document: Document, path: Path, data: Any) -> None:
        if not isinstance(data, dict):
            raise document.error(path, "a mapping is expected here")
        self.document, self.path, self.data = document, path, data
        self._known: set[str] = set()

    def get(self, key: str, convert: Callable[[Any], T], default: T) -> T:
        self._known.add(key)
        value = self.data.get(key)
        if value is None:
            return default
        try:
            return convert(value)
        except (TypeError, ValueError) as error:
            raise self.document.error((*self.path, key), f"{key}: {error}") from error

    def child(self, key: str) -> _Node | None:
        self._known.add(key)
        value = self.data.get(key)
        return None if value is None else _Node(self.document, (*self.path, key), value)

    def children(self, key: str) -> list[_Node]:
        self._known.add(key)
        values = self.data.get(key) or []
        if not isinstance(values, list):
            raise self.document.error((*self.path, key), f"{key} must be a list")
        return [
            _Node(self.document, (*self.path, key, place), value)
            for place, value in enumerate(values)
        ]

    def done(self) -> None:
        unknown = [key for key in self.data if key not in self._known]
        if unknown:
            raise self.document.error(
                (*self.path, unknown[0]),
                f"the field {unknown[0]!r} is not supported",
                hint=f"known here: {', '.join(sorted(self._known))}",
            )


def _job(node: _Node) -> ScrapeConfig:
    interval_s = node.get("scrape_interval", _duration, DEFAULT_INTERVAL_S)
    timeout_s = node.get("scrape_timeout", _duration, min(DEFAULT_TIMEOUT_S, interval_s))
    config = ScrapeConfig(
        job_name=node.get("job_name", _text, ""),
        interval_s=interval_s,
        timeout_s=timeout_s,
        static_targets=tuple(_static(child) for child in node.children("static_configs")),
        metrics_path=node.get("metrics_path", _text, "/metrics"),
        scheme=node.get("scheme", _scheme, "http"),
        params=node.get("params", _params, {}),
        honor_labels=node.get("honor_labels", _flag, default=False),
        honor_timestamps=node.get("honor_timestamps", _flag, default=True),
        follow_redirects=node.get("follow_redirects", _flag, default=True),
        verify_tls=_verify_tls(node.child("tls_config")),
        basic_auth=_basic_auth(node.child("basic_auth")),
        authorization=_authorization(node.child("authorization")),
        limits=_limits(node),
        relabel=tuple(_rule(child) for child in node.children("relabel_configs")),
        metric_relabel=tuple(_rule(child) for child in node.children("metric_relabel_configs")),
    )
    node.done()
    if not config.job_name:
        raise node.document.error(node.path, "a scrape configuration needs a job_name")
    if timeout_s > interval_s:
        raise node.document.error(
            (*node.path, "scrape_timeout"), "scrape_timeout is longer than scrape_interval"
        )
    if sum(len(group.addresses) for group in config.static_targets) > MAX_TARGETS:
        raise node.document.error(node.path, f"a job may have at most {MAX_TARGETS} targets")
    return config


def _limits(node: _Node) -> ScrapeLimits:
    return ScrapeLimits(
        samples=node.get("sample_limit", _count, 0),
        labels=node.get("label_limit", _count, 0),
        label_name=node.get("label_name_length_limit", _count, 0),
        label_value=node.get("label_value_length_limit", _count, 0),
        body_bytes=node.get("body_size_limit", _size, DEFAULT_BODY_SIZE) or DEFAULT_BODY_SIZE,
    )


def _static(node: _Node) -> StaticTargets:
    found = StaticTargets(
        addresses=node.get("targets", _texts, ()), labels=node.get("labels", _text_map, {})
    )
    node.done()
    for address in found.addresses:
        if "/" in address:
            raise node.document.error(
                (*node.path, "targets"),
                f"the target {address!r} must be host:port only",
                hint="use scheme and metrics_path for the rest",
            )
    return found


def _basic_auth(node: _Node | None) -> tuple[str, str] | None:
    if node is None:
        return None
    found = node.get("username", _text, ""), node.get("password", _text, "")
    node.done()
    return found


def _authorization(node: _Node | None) -> str:
    if node is None:
        return ""
    kind, credentials = node.get("type", _text, "Bearer"), node.get("credentials", _text, "")
    node.done()
    return f"{kind} {credentials}"


def _verify_tls(node: _Node | None) -> bool:
    if node is None:
        return True
    insecure = node.get("insecure_skip_verify", _flag, default=False)
    node.done()
    return not insecure


def _rule(node: _Node) -> RelabelRule:
    rule = RelabelRule(
        action=node.get("action", _action, Action.REPLACE),
        source_labels=node.get("source_labels", _texts, ()),
        separator=node.get("separator", _text, ";"),
        regex=node.get("regex", lambda value: compiled(str(value)), compiled("(?s)(.*)")),
        target_label=node.get("target_label", _text, ""),
        replacement=node.get("replacement", str, "$1"),
        modulus=node.get("modulus", _count, 0),
    )
    node.done()
    if rule.action in _NEED_TARGET and not rule.target_label:
        raise node.document.error(node.path, f"{rule.action.value} needs a target_label")
    if rule.action is Action.HASHMOD and not rule.modulus:
        raise node.document.error(node.path, "hashmod needs a modulus of 1 or more")
    return rule


_NEED_TARGET = frozenset(
    {
        Action.REPLACE,
        Action.HASHMOD,
        Action.LOWERCASE,
        Action.UPPERCASE,
        Action.KEEPEQUAL,
        Action.DROPEQUAL,
    }
)


def _text(value: Any) -> str:
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise TypeError("a text is expected")
    return str(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false is expected")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("a whole number of 0 or more is expected")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("a list is expected")
    return tuple(_text(item) for item in value)


def _text_map(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("a mapping is expected")
    return {_text(key): _text(item) for key, item in value.items()}


def _params(value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise TypeError("a mapping of name to list is expected")
    return {_text(key): _texts(item) for key, item in value.items()}


def _duration(value: Any) -> float:
    found = duration_s(_text(value))
    if not found:
        raise ValueError("it must be longer than 0s")
    return found


def _size(value: Any) -> int:
    return size_bytes(_text(value))


def _scheme(value: Any) -> str:
    if value not in ("http", "https"):
        raise ValueError("http or https is expected")
    return str(value)


def _action(value: Any) -> Action:
    try:
        return Action(str(value).lower())
    except ValueError:
        known = ", ".join(action.value for action in Action)
        raise ValueError(f"{value!r} is unknown; use one of {known}") from None

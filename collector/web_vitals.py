"""Web vitals and page loads of real browsers as cumulative histograms, by page and device.

A browser may report a vital again with a larger value while its page lives. The last value within
`settle_ms` of the first report counts, once. Nothing that names a person is kept: no address, no
query string, no element, and ids in paths become `{id}`.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from collector.browser_sender import Sender
from collector.vital_kinds import KINDS, VitalKind
from store.errors import BadInput, LimitExceeded
from store.model import METRIC_NAME, Labels, MetricMetadata, MetricType, SampleBatch

MAX_VITALS = 100
MAX_PAGES = 200
MAX_PENDING = 20_000
MAX_SETTLED = 50_000
SETTLE_MS = 5_000
OTHER_PAGE = "(other)"
DEVICES = frozenset({"mobile", "desktop", "tablet"})
_NOBODY = Sender()

_ID_PART = re.compile(
    r"\d+|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16,}|[^/]*\d{4,}[^/]*|[^/]{41,}"
    # A ULID and its like; a signed token, whatever its length.
    r"|(?=[a-z]*\d)[0-9a-z]{16,}|eyJ[\w-]*\.[^/]*",
    re.IGNORECASE,
)
# Letters of both cases and digits mixed over some length are a token, not a word.
_TOKEN = re.compile(r"(?=[^/]*\d)(?=[^/]*[a-z])(?=[^/]*[A-Z])[\w-]{16,}")
# A mail address, also in a URL. Each place is looked at once: browsers send long texts.
MAIL = re.compile(
    r"(?:(?<![\w.+\-%])|(?<=%40))(?:[\w.+\-]|%(?!(?:25)*40))++(?:@|%(?:25)*40)"
    r"[\w\-]{1,63}(?:\.[\w\-]{1,63})+"
)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.\-]*://[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Vital:
    """One measurement, in seconds (CLS: its own unit). An empty id is never seen again."""

    name: str
    value: float
    report_id: str
    page: str
    device: str


def page_template(url: str) -> str:
    """A path fit for a label: no origin, query, fragment or parameter; ids and mails replaced.

    >>> page_template("https://shop.example/products/1234/?utm=x#top")
    '/products/{id}/'
    >>> page_template("/users/ann%40example.com/cart;sid=x")
    '/users/{id}/cart'
    """
    path = _ORIGIN.sub("", url[:2048], count=1)
    path = path.partition("?")[0].partition("#")[0]
    parts = [_part(part.partition(";")[0]) for part in path.split("/")[:12]]
    template = "/".join(parts)[:200]
    return template if template.startswith("/") else f"/{template}"


def _part(part: str) -> str:
    is_id = _ID_PART.fullmatch(part) or _TOKEN.fullmatch(part) or MAIL.search(part)
    return "{id}" if is_id else part


def decode_beacon(body: bytes, sender: Sender = _NOBODY) -> tuple[list[Vital], int]:
    """The vitals of a beacon (one object or an array), and how many were not believable.

    Where it does not say its page or device, as the library itself does not, its sender does.

    Raises:
        BadInput: It is no JSON of that shape.
        LimitExceeded: There are more than `MAX_VITALS` (reason `too_many_vitals`).
    """
    document = _json(body)
    items = document if isinstance(document, list) else [document]
    _check_count(len(items))
    return kept(vital_of(item, sender) for item in items)


def vital_of(item: Any, sender: Sender = _NOBODY) -> Vital | None:
    """The measurement that these fields tell; None where it is not believable."""
    fields = _mapping(item)
    name = str(fields.get("name"))[:8].upper()
    kind = KINDS.get(name)
    value = fields.get("value")
    if kind is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    scaled = value / kind.divisor
    if not math.isfinite(scaled) or not 0 <= scaled <= kind.largest:
        return None
    page = fields.get("page") or fields.get("url") or fields.get("navigationURL") or sender.page
    device = str(fields.get("device") or "").lower()
    return Vital(
        name,
        scaled,
        str(fields.get("id") or "")[:100],
        page_template(page) if isinstance(page, str) and page else "/",
        device if device in DEVICES else sender.device,
    )


def kept(found: Iterable[Vital | None]) -> tuple[list[Vital], int]:
    """Those that are believable, and how many are not."""
    vitals = list(found)
    believable = [vital for vital in vitals if vital is not None]
    return believable, len(vitals) - len(believable)


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the beacon is not valid JSON: {error}") from error


def _check_count(count: int) -> None:
    if count > MAX_VITALS:
        raise LimitExceeded(
            f"{count} measurements in one beacon, at most {MAX_VITALS} are taken",
            reason="too_many_vitals",
        )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


class PageNames:
    """The first so many pages are told apart; the rest is one."""

    def __init__(self, most: int = MAX_PAGES) -> None:
        self._most = most
        self._known: set[str] = set()

    def bounded(self, page: str) -> str:
        if page in self._known or len(self._known) < self._most:
            self._known.add(page)
            return page
        return OTHER_PAGE


class _Histogram:
    """Cumulative counts of one vital, page and device."""

    def __init__(self, kind: VitalKind, labels: dict[str, str]) -> None:
        self._bounds = kind.bounds
        self._counts = [0] * (len(kind.bounds) + 1)
        self._sum = 0.0
        texts = [*(f"{bound:g}" for bound in kind.bounds), "+Inf"]
        name = kind.family
        self._series = [
            Labels.of(labels, **{METRIC_NAME: f"{name}_bucket", "le": text}) for text in texts
        ]
        self._series.append(Labels.of(labels, **{METRIC_NAME: f"{name}_count"}))
        self._series.append(Labels.of(labels, **{METRIC_NAME: f"{name}_sum"}))

    def observe(self, value: float) -> None:
        for place, bound in enumerate(self._bounds):
            if value <= bound:
                self._counts[place] += 1
        self._counts[-1] += 1
        self._sum += value

    def rows(self, ts_ms: int) -> list[tuple[Labels, int, float]]:
        values = [*map(float, self._counts), float(self._counts[-1]), self._sum]
        return [(s, ts_ms, v) for s, v in zip(self._series, values, strict=True)]


class WebVitals:
    """Counts vitals. Not thread-safe: used from the event loop alone."""

    def __init__(self, *, settle_ms: int = SETTLE_MS, max_pages: int = MAX_PAGES) -> None:
        self._settle_ms = settle_ms
        self._pages = PageNames(max_pages)
        self._pending: OrderedDict[tuple[str, str], tuple[int, Vital]] = OrderedDict()
        self._settled: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._histograms: dict[tuple[str, str, str], _Histogram] = {}
        self._ready: list[Vital] = []

    def add(self, vitals: Iterable[Vital], now_ms: int) -> None:
        for vital in vitals:
            key = (vital.name, vital.report_id)
            if not vital.report_id:
                self._ready.append(vital)
            elif key in self._pending:
                self._pending[key] = (self._pending[key][0], vital)
            elif key not in self._settled:
                self._pending[key] = (now_ms, vital)
                if len(self._pending) > MAX_PENDING:
                    self._settle_oldest()

    def due(self, now_ms: int) -> SampleBatch:
        """Samples of every histogram that changed: what has settled by now is counted."""
        while self._pending:
            first_ms, _ = next(iter(self._pending.values()))
            if now_ms - first_ms < self._settle_ms:
                break
            self._settle_oldest()
        changed: dict[tuple[str, str, str], _Histogram] = {}
        rows: list[tuple[Labels, int, float]] = []
        for vital in self._ready:
            bounded = replace(vital, page=self._pages.bounded(vital.page))
            key = (bounded.name, bounded.page, bounded.device)
            histogram = self._histograms.get(key)
            if histogram is None:
                labels = {"page": bounded.page, "device": bounded.device}
                histogram = self._histograms[key] = _Histogram(KINDS[bounded.name], labels)
                # Without a zero before it, rate() would not see a series' first count.
                rows += histogram.rows(now_ms - 1000)
            histogram.observe(vital.value)
            changed[key] = histogram
        self._ready.clear()
        for histogram in changed.values():
            rows += histogram.rows(now_ms)
        kinds = sorted({name for name, _, _ in changed})
        return SampleBatch.of_rows(
            rows,
            metadata=tuple(
                MetricMetadata(KINDS[name].family, MetricType.HISTOGRAM, KINDS[name].help)
                for name in kinds
            ),
        )

    def settle_all(self) -> None:
        """No report will come any more: the next `due` counts everything."""
        while self._pending:
            self._settle_oldest()

    @property
    def waiting(self) -> bool:
        """Whether something is still to settle."""
        return bool(self._pending or self._ready)

    def _settle_oldest(self) -> None:
        key, (_, vital) = self._pending.popitem(last=False)
        self._ready.append(vital)
        self._settled[key] = None
        if len(self._settled) > MAX_SETTLED:
            self._settled.popitem(last=False)

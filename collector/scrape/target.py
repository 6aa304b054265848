"""Scrape targets: what is discovered, what relabelling makes of it, and the URL that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from collector.quantities import duration_s
from collector.relabel import relabelled
from collector.scrape.config import ScrapeConfig
from collector.scrape.discovery_config import TargetGroup
from store.durations import format_duration

_MASK = "<secret>"


@dataclass(frozen=True, slots=True)
class Target:
    """One URL to scrape.

    Attributes:
        config: The job.
        discovered: Labels before relabelling, `__address__` and the like among them.
        labels: Labels of every series; `job` and `instance` at least.
        url: What is asked, query included.
        interval_s: Seconds between scrapes.
        timeout_s: Seconds until a scrape has failed.
    """

    config: ScrapeConfig = field(compare=False, hash=False)
    discovered: Mapping[str, str] = field(compare=False, hash=False)
    labels: Mapping[str, str] = field(compare=False, hash=False)
    url: str
    interval_s: float
    timeout_s: float
    key: str = ""

    @property
    def source(self) -> str:
        """Its name among the sources."""
        return f"scrape:{self.labels['job']}/{self.labels['instance']}"

    @property
    def shown_url(self) -> str:
        """The URL without the values of its query."""
        return without_query_values(self.url)


def without_query_values(url: str) -> str:
    """A URL or path fit to be shown: names of its query stay, values may be secrets.

    >>> without_query_values("http://shop:9/probe?module=a&token=b")
    'http://shop:9/probe?module=<secret>&token=<secret>'
    """
    before, sign, query = url.partition("?")
    names = [pair.partition("=")[0] for pair in query.split("&")] if query else []
    return before + sign + "&".join(f"{name}={_MASK}" for name in names)


def shown_labels(discovered: Mapping[str, str]) -> dict[str, str]:
    """Labels before relabelling, fit to be shown."""
    return {name: _shown_label(name, value) for name, value in discovered.items()}


def _shown_label(name: str, value: str) -> str:
    if name.startswith("__param_"):
        return _MASK
    if name == "__metrics_path__":
        return without_query_values(value)
    if name == "__meta_url":
        parts = urlsplit(value)
        rest = parts.path.strip("/") or parts.query
        return f"{parts.scheme}://{parts.netloc}{'/' + _MASK if rest else ''}"
    return value


def targets_of(
    config: ScrapeConfig, groups: Sequence[TargetGroup]
) -> tuple[list[Target], list[Mapping[str, str]], list[str]]:
    """Every target of a job, equal ones once; the labels of those dropped; what cannot be."""
    kept: dict[str, Target] = {}
    dropped: list[Mapping[str, str]] = []
    errors: list[str] = []
    for group in groups:
        for address in group.addresses:
            discovered = _discovered(config, address, group.labels)
            labels = relabelled(discovered, config.relabel)
            if labels is None:
                dropped.append(discovered)
                continue
            try:
                target = _target(config, discovered, labels)
            except ValueError as error:
                errors.append(f"{address[:80]}: {error}")
                continue
            kept.setdefault(target.key, target)
    return list(kept.values()), dropped, errors


def _discovered(config: ScrapeConfig, address: str, labels: Mapping[str, str]) -> dict[str, str]:
    params = {f"__param_{name}": values[0] for name, values in config.params.items() if values}
    return {
        "job": config.job_name,
        "__scheme__": config.scheme,
        "__metrics_path__": config.metrics_path,
        "__scrape_interval__": format_duration(round(config.interval_s * 1000)),
        "__scrape_timeout__": format_duration(round(config.timeout_s * 1000)),
        **params,
        **labels,
        "__address__": address,
    }


def _target(
    config: ScrapeConfig, discovered: Mapping[str, str], labels: Mapping[str, str]
) -> Target:
    address = labels.get("__address__", "")
    if not address:
        raise ValueError("relabel_configs leave the target without __address__")
    interval_s = duration_s(labels.get("__scrape_interval__", ""))
    timeout_s = duration_s(labels.get("__scrape_timeout__", ""))
    if not 0 < timeout_s <= interval_s:
        raise ValueError("relabel_configs leave a scrape timeout longer than the interval")
    public = {name: value for name, value in labels.items() if not name.startswith("__")}
    if "" in public:
        raise ValueError("a label without a name is left to the target")
    public.setdefault("job", config.job_name)
    public.setdefault("instance", address)
    url = _url(config, labels, address)
    return Target(
        config,
        discovered,
        public,
        url,
        interval_s,
        timeout_s,
        key=f"{config.job_name} {url} {sorted(public.items())} {interval_s} {timeout_s}",
    )


def _url(config: ScrapeConfig, labels: Mapping[str, str], address: str) -> str:
    params = [(name, value) for name, values in config.params.items() for value in values[1:]]
    first = [
        (name.removeprefix("__param_"), value)
        for name, value in labels.items()
        if name.startswith("__param_")
    ]
    query = urlencode(first + params)
    path = labels.get("__metrics_path__", config.metrics_path)
    base = f"{labels.get('__scheme__', config.scheme)}://{address}{path}"
    return f"{base}{'&' if '?' in path else '?'}{query}" if query else base

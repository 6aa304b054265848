"""Scrape targets: what is discovered, what relabelling makes of it, and the URL that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from collector.scrape.config import ScrapeConfig
from collector.scrape.quantities import duration_s
from collector.scrape.relabel import relabelled
from store.errors import ConfigError


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


@dataclass(frozen=True, slots=True)
class DroppedTarget:
    """A target that relabelling dropped."""

    config: ScrapeConfig
    discovered: Mapping[str, str]


def targets_of(config: ScrapeConfig) -> tuple[list[Target], list[DroppedTarget]]:
    """Every static target of a job, kept or dropped; equal ones once.

    Raises:
        ConfigError: Relabelling leaves a target without an address.
    """
    kept: dict[str, Target] = {}
    dropped: list[DroppedTarget] = []
    for group in config.static_targets:
        for address in group.addresses:
            discovered = _discovered(config, address, group.labels)
            labels = relabelled(discovered, config.relabel)
            if labels is None:
                dropped.append(DroppedTarget(config, discovered))
                continue
            target = _target(config, discovered, labels)
            kept.setdefault(target.key, target)
    return list(kept.values()), dropped


def _discovered(config: ScrapeConfig, address: str, labels: Mapping[str, str]) -> dict[str, str]:
    params = {f"__param_{name}": values[0] for name, values in config.params.items() if values}
    return {
        "job": config.job_name,
        "__scheme__": config.scheme,
        "__metrics_path__": config.metrics_path,
        "__scrape_interval__": f"{round(config.interval_s * 1000)}ms",
        "__scrape_timeout__": f"{round(config.timeout_s * 1000)}ms",
        **params,
        **labels,
        "__address__": address,
    }


def _target(
    config: ScrapeConfig, discovered: Mapping[str, str], labels: Mapping[str, str]
) -> Target:
    address = labels.get("__address__", "")
    if not address:
        raise ConfigError(
            f"relabel_configs of job {config.job_name!r} leave a target without __address__",
            hint="keep __address__, or drop the target",
        )
    public = {name: value for name, value in labels.items() if not name.startswith("__")}
    public.setdefault("job", config.job_name)
    public.setdefault("instance", address)
    url = _url(config, labels, address)
    return Target(
        config,
        discovered,
        public,
        url,
        duration_s(labels.get("__scrape_interval__", f"{round(config.interval_s * 1000)}ms")),
        duration_s(labels.get("__scrape_timeout__", f"{round(config.timeout_s * 1000)}ms")),
        key=f"{config.job_name} {url} {sorted(public.items())}",
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

"""The same alerts through the same file: Warroom tells what a real Alertmanager tells, and when."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alerts.alertmanager_peer import Step, differences, record, replayed

# A loaded machine may push an instant over a flush: what truly differs differs again.
ATTEMPTS = 3
WITHIN_S = 1.0
CONFIG = """
global: {resolve_timeout: 5m}
route:
  receiver: root
  group_by: [alertname]
  group_wait: 1s
  group_interval: 3s
  repeat_interval: 7s
  routes:
    - matchers: [team="db"]
      receiver: db
      group_by: [alertname, cluster]
      continue: true
      routes:
        - {matchers: ['severity="page"'], receiver: page, group_wait: 2s, continue: true}
        - {matchers: ['severity=~"pa.*"', 'cluster!="b"'], receiver: all}
    - {match_re: {team: db|web}, receiver: both, group_by: ['...']}
    - {match: {team: web}, receiver: never-reached}
    - {matchers: [team="quiet"], receiver: quiet, group_by: []}
    - {matchers: [team="muted"], receiver: muted, mute_time_intervals: [always]}
    - {matchers: [team="active"], receiver: active, active_time_intervals: [always]}
    - {matchers: [team="inactive"], receiver: inactive, active_time_intervals: [long-ago]}
receivers:
  - {name: root, webhook_configs: [{url: 'HOOK'}]}
  - {name: db, webhook_configs: [{url: 'HOOK'}]}
  - {name: page, webhook_configs: [{url: 'HOOK'}]}
  - {name: all, webhook_configs: [{url: 'HOOK'}]}
  - {name: both, webhook_configs: [{url: 'HOOK'}]}
  - {name: never-reached, webhook_configs: [{url: 'HOOK'}]}
  - {name: quiet, webhook_configs: [{url: 'HOOK', send_resolved: false}]}
  - {name: muted, webhook_configs: [{url: 'HOOK'}]}
  - {name: active, webhook_configs: [{url: 'HOOK'}]}
  - {name: inactive, webhook_configs: [{url: 'HOOK'}]}
inhibit_rules:
  - source_matchers: ['severity="page"']
    target_matchers: ['severity="ticket"']
    equal: [cluster, zone]
  - {source_match: {role: cause}, target_match_re: {role: cause|effect}, equal: [case]}
time_intervals:
  - {name: always, time_intervals: [{times: [{start_time: '00:00', end_time: '24:00'}]}]}
  - {name: long-ago, time_intervals: [{years: ['1999']}]}
"""


def fire(at_s: float, name: str, **labels: str) -> Step:
    return Step(at_s, "fire", {"alertname": name, **labels}, {"summary": f"{name} at {at_s:g}"})


def resolve(at_s: float, name: str, **labels: str) -> Step:
    return Step(at_s, "resolve", {"alertname": name, **labels}, {"summary": f"{name} ended"})


def silence(at_s: float, lasts_s: float, name: str, **labels: str) -> Step:
    return Step(at_s, "silence", {"alertname": name, **labels}, lasts_s=lasts_s)


GROUPING = [
    fire(0.0, "Joined", inst="1"),
    fire(0.5, "Joined", inst="2"),
    fire(2.5, "Joined", inst="3"),
    resolve(5.5, "Joined", inst="2"),
    resolve(8.5, "Joined", inst="1"),
    resolve(8.6, "Joined", inst="3"),
    fire(0.1, "Repeated"),
    Step(0.6, "fire", {"alertname": "NoStart"}, {"a": "1"}, lasts_s=1.0),
    Step(4.6, "fire", {"alertname": "NoStart"}, {"a": "2"}, lasts_s=1.0),
]
ROUTING = [
    fire(0.2, "Disk", team="db", severity="page", cluster="a"),
    fire(0.7, "Disk", team="db", severity="page", cluster="b"),
    fire(0.3, "Disk", team="db", severity="ticket", cluster="a"),
    fire(0.3, "Slow", team="db", severity="ticket", cluster="c"),
    resolve(6.2, "Disk", team="db", severity="page", cluster="a"),
    fire(0.4, "Web", team="web", x="1"),
    fire(0.45, "Web", team="web", x="2"),
    resolve(4.0, "Web", team="web", x="2"),
    fire(0.1, "Muted", team="muted"),
    fire(0.1, "Active", team="active"),
    fire(0.1, "Inactive", team="inactive"),
]
INHIBITION = [
    fire(0.15, "C1", role="cause", case="x"),
    fire(0.16, "C2", role="cause", case="x"),
    fire(0.17, "C3", role="effect", case="x"),
    fire(0.18, "C4", role="effect", case="y"),
    resolve(5.3, "C1", role="cause", case="x"),
    resolve(5.35, "C2", role="cause", case="x"),
]
FLAPPING = [
    fire(0.1, "Q1", team="quiet"),
    fire(3.6, "Q2", team="quiet"),
    resolve(5.1, "Q1", team="quiet"),
    resolve(9.1, "Q2", team="quiet"),
    fire(12.6, "Q2", team="quiet"),
    fire(0.25, "Flap"),
    resolve(1.8, "Flap"),
    fire(2.8, "Flap"),
    resolve(5.0, "Flap"),
    fire(7.9, "Flap"),
    resolve(11.0, "Flap"),
    fire(13.0, "Flap"),
    fire(0.3, "Short"),
    resolve(0.8, "Short"),
    fire(9.7, "Short"),
]
SILENCES = [
    silence(0.0, 6.0, "Hushed"),
    fire(0.3, "Hushed"),
    fire(0.3, "Half", n="1"),
    silence(2.3, 8.0, "Half", n="2"),
    fire(2.9, "Half", n="2"),
]


def agree(directory: Path, config: str, steps: Sequence[Step], lasts_s: float) -> int:
    """Both tell the same; answers with how many notifications that were."""
    found = [""]
    for attempt in range(ATTEMPTS):
        place = directory / f"attempt{attempt}"
        place.mkdir()
        real = record(place, config, steps, lasts_s)
        found = differences(real, replayed(config, real, lasts_s), within_s=WITHIN_S)
        if not found:
            return len(real.told)
    pytest.fail("\n".join(found))


def test_groups_times_inhibitions_and_silences_are_those_of_a_real_alertmanager(
    tmp_path: Path,
) -> None:
    steps = [*GROUPING, *ROUTING, *INHIBITION, *FLAPPING, *SILENCES]
    assert agree(tmp_path, CONFIG, steps, 16.0) >= 40


class Scenarios:
    """Random routes and random lives of alerts. Each scenario has a label value of its own.

    No repeat_interval is a multiple of its group_interval: whether the real one repeats then
    depends on its latency.
    """

    def __init__(self, seed: int, count: int, lasts_s: float) -> None:
        self._chances = random.Random(seed)
        self._lasts_s = lasts_s
        self.steps: list[Step] = []
        names = [f"s{number}" for number in range(count)]
        config: dict[str, Any] = {
            "route": {"receiver": "rest", "routes": [self._route(name) for name in names]},
            "receivers": [self._receiver("rest")],
            "inhibit_rules": [self._inhibit(name) for name in names],
        }
        for name in names:
            config["receivers"] += [self._receiver(name), self._receiver(f"{name}-below")]
            self._lives(name)
        self.config: str = yaml.safe_dump(config)

    def _receiver(self, name: str) -> dict[str, Any]:
        send = self._chances.random() < 0.8
        return {"name": name, "webhook_configs": [{"url": "HOOK", "send_resolved": send}]}

    def _route(self, name: str) -> dict[str, Any]:
        chances = self._chances
        below = {
            "matchers": [chances.choice(['n="1"', 'n=~"1|2"', 'n!="3"'])],
            "receiver": f"{name}-below",
            "continue": chances.random() < 0.5,
            "group_wait": chances.choice(["0s", "1s", "2s"]),
        }
        if chances.random() < 0.5:
            below["group_by"] = chances.choice([["..."], ["n"], ["alertname", "n"]])
        return {
            "matchers": [f'case="{name}"'],
            "receiver": name,
            "group_by": chances.choice([["alertname"], ["n"], ["..."], []]),
            "group_wait": chances.choice(["0s", "1s", "2s"]),
            "group_interval": chances.choice(["2s", "3s", "5s"]),
            "repeat_interval": chances.choice(["3500ms", "7500ms", "1h"]),
            "routes": [below, {"matchers": ['n="2"'], "receiver": name}][: chances.randint(0, 2)],
        }

    def _inhibit(self, name: str) -> dict[str, Any]:
        return {
            "source_matchers": [f'case="{name}"', self._chances.choice(['n="1"', 'n=~"1|2"'])],
            "target_matchers": [f'case="{name}"', self._chances.choice(['n="3"', 'n=~"2|3"'])],
            "equal": self._chances.choice([["alertname"], ["zone"], []]),
        }

    def _lives(self, name: str) -> None:
        # Each tenth of a second is used once: no two instants of a scenario meet at a flush.
        tenths = self._chances.sample(range(10), 10)
        seconds = sorted(self._chances.choices(range(int(self._lasts_s) - 4), k=10))
        burning: set[tuple[str, str]] = set()
        acts = sorted(zip(seconds, tenths, strict=True))
        for second, tenth in acts[: self._chances.randint(4, 10)]:
            alert = self._chances.choice("AB"), self._chances.choice("123")
            act = resolve if alert in burning and self._chances.random() < 0.7 else fire
            burning ^= {alert} if (alert in burning) == (act is resolve) else set()
            labels = {"case": name, "n": alert[1]}
            self.steps.append(act(second + tenth / 10, alert[0], **labels))
        if self._chances.random() < 0.4:
            at_s = self._chances.randrange(12) + 0.575
            self.steps.append(silence(at_s, 6.0, self._chances.choice("AB"), case=name))


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(6))
def test_random_routes_and_lives_of_alerts_are_told_as_a_real_alertmanager_tells_them(
    seed: int, tmp_path: Path
) -> None:
    scenarios = Scenarios(seed, 60, 28.0)
    assert agree(tmp_path, scenarios.config, scenarios.steps, 28.0) >= 100

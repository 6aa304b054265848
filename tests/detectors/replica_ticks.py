"""What the rules and the detector of replica lag say tick by tick, over a real store and engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import detectors.signals
from alerts.rules import RuleEvaluator, parse_rule_file
from detectors.detector import SignalContext
from detectors.finding import Finding
from detectors.registry import DetectorSettings
from store.model import Labels, SampleBatch
from store.promql.engine import Engine
from store.testing import open_store

START_MS = 1_700_000_000_000
TICK_S = 5
RULES = Path(detectors.signals.__file__).with_name("signals.yml")

Row = tuple[Labels, int, float]


def judged(
    series: Sequence[str], told: Callable[[int], Iterable[Row]], lasts_s: int
) -> Iterator[tuple[int, tuple[Finding, ...]]]:
    """Each tick's second and findings, of what is `told` at it.

    Recorded are the series whose names begin, behind `sig:`, with one of `series`.
    """
    lines = RULES.read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if any(f'"sig:{name}' in line for name in series)]
    text = "\n".join(wanted)
    rules = parse_rule_file(f"groups:\n- name: replicas\n  rules:\n{text}", "replicas.yml")
    detector = DetectorSettings().signal_detectors()["replica_lag"]
    active: dict[str, Finding] = {}
    with open_store() as store:
        engine = Engine(store)
        evaluator = RuleEvaluator(engine, store, [rules])
        for now_s in range(0, lasts_s, TICK_S):
            rows = list(told(now_s))
            if rows:
                store.append(SampleBatch.of_rows(rows)).result(30)
            now_ms = START_MS + now_s * 1_000
            evaluator.record(now_ms)
            found = detector.evaluate(engine, SignalContext(now_ms, active))
            active = {finding.fingerprint: finding for finding in found}
            yield now_s, found

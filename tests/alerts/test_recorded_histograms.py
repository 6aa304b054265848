from pathlib import Path

from alerts.rule_evaluation import RuleEvaluator
from alerts.rule_files import parse_rule_file
from store.backends.duckdb import DuckDBStore
from store.histograms import Buckets, NativeHistogram
from store.model import Labels, SampleBatch
from store.promql.engine import Engine

RULES = """
groups:
  - name: latency
    rules:
      - record: job:latency:sum
        expr: sum by (job) (latency)
"""


def test_a_rule_records_histograms_as_histograms(tmp_path: Path) -> None:
    histogram = NativeHistogram(count=3, sum=2, positive=Buckets((0, 1), (1.0, 2.0)))
    rows = [(Labels.of(__name__="latency", job="web", pod=pod), 1000, histogram) for pod in "ab"]
    with DuckDBStore.open(tmp_path) as store:
        store.append(SampleBatch.of_rows(rows)).result(timeout=30)
        engine = Engine(store)
        evaluator = RuleEvaluator(engine, store, [parse_rule_file(RULES, "r.yml")])
        assert [unit.error for unit in evaluator.record(2000)] == [""]
        (recorded,) = engine.instant("job:latency:sum", 2000).samples()
        assert recorded == (
            Labels.of(__name__="job:latency:sum", job="web"),
            NativeHistogram(count=6, sum=4, positive=Buckets((0, 1), (2.0, 4.0))),
        )
        evaluator.record(400_000)
        assert len(engine.instant("job:latency:sum", 400_000)) == 0

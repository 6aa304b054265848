from pathlib import Path

import pytest

from store.errors import QueryError
from store.histograms import NativeHistogram
from store.model import InstantVector
from store.promql.engine import Engine, ScalarResult
from tests.store.promql.script import Case, close, read_cases, same

CASES = [
    case
    for path in sorted((Path(__file__).parent / "cases").glob("*.promql"))
    for case in read_cases(path)
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.where} {case.expr}")
def test_a_query_answers_as_its_case_says(case: Case) -> None:
    engine = Engine(case.reader)
    if case.fails:
        with pytest.raises(QueryError) as failure:
            engine.query(case.expr, case.ts_ms)
        assert case.fails in str(failure.value)
        return
    answer = engine.query(case.expr, case.ts_ms)
    notes = [*answer.warnings, *answer.infos]
    assert len(notes) == len(case.notes)
    assert all(note.startswith(wanted) for note, wanted in zip(notes, case.notes, strict=True))
    if case.scalar is not None:
        assert isinstance(answer.result, ScalarResult)
        assert close(answer.result.value, case.scalar)
        return
    assert isinstance(answer.result, InstantVector)
    result, wanted = answer.result, case.expected
    cells = [None] * len(result) if result.histograms is None else result.histograms.tolist()
    values = [
        value if histogram is None else histogram
        for value, histogram in zip(result.values.tolist(), cells, strict=True)
    ]
    got = list(zip(result.series, values, strict=True))
    if not case.ordered:
        got.sort(key=lambda item: item[0].pairs)
        wanted = sorted(wanted, key=lambda item: item[0].pairs)
    assert [labels for labels, _ in got] == [labels for labels, _ in wanted]
    assert all(_alike(a, b) for (_, a), (_, b) in zip(got, wanted, strict=True)), got


def _alike(got: float | NativeHistogram, wanted: float | NativeHistogram) -> bool:
    if isinstance(got, NativeHistogram) and isinstance(wanted, NativeHistogram):
        return same(got, wanted)
    if isinstance(got, NativeHistogram) or isinstance(wanted, NativeHistogram):
        return False
    return close(got, wanted)


def test_the_corpus_is_found() -> None:
    assert len(CASES) > 120

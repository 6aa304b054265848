"""Client spans name the line of the shop's own code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Tracer

from collector.instrument.locations import CodeLocationProcessor

_APP = """
from library import driver

def loop(tracer):
    return [driver.query(tracer) for _ in range(3)]

def once(tracer, **more):
    driver.query(tracer, **more)

def twice(tracer):
    driver.query(tracer)
    driver.query(tracer)
"""
_DRIVER = """
def query(tracer, **more):
    tracer.start_span("SELECT", **{"kind": KIND, **more}).end()
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An application beside its own installed packages, as in a virtual environment below it."""
    packages = tmp_path / "venv" / "site-packages" / "library"
    packages.mkdir(parents=True)
    (packages / "__init__.py").write_text("")
    (packages / "driver.py").write_text(_DRIVER)
    (tmp_path / "app.py").write_text(_APP)
    monkeypatch.syspath_prepend(str(packages.parent))
    spec = importlib.util.spec_from_file_location("app", tmp_path / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.driver.KIND = SpanKind.CLIENT
    return module


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(tmp_path: Path, exporter: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(CodeLocationProcessor([tmp_path]))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def _where(spans: tuple[ReadableSpan, ...]) -> list[tuple[object, object]]:
    return [
        (
            (span.attributes or {}).get("code.line.number"),
            (span.attributes or {}).get("code.function.name"),
        )
        for span in spans
    ]


def test_a_loop_is_named_by_its_function_not_by_its_comprehension(
    app: ModuleType, tracer: Tracer, exporter: InMemorySpanExporter, tmp_path: Path
) -> None:
    app.loop(tracer)
    spans = exporter.get_finished_spans()
    assert _where(spans) == [(5, "app.loop")] * 3
    assert (spans[0].attributes or {})["code.file.path"] == str(tmp_path / "app.py")


def test_two_lines_of_one_function_are_told_apart(
    app: ModuleType, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    app.twice(tracer)
    assert _where(exporter.get_finished_spans()) == [(11, "app.twice"), (12, "app.twice")]


@pytest.mark.parametrize(
    "more",
    [{"kind": SpanKind.SERVER}, {"kind": SpanKind.INTERNAL}],
    ids=["a server span", "an internal span"],
)
def test_other_kinds_are_left_alone(
    app: ModuleType,
    tracer: Tracer,
    exporter: InMemorySpanExporter,
    more: dict[str, SpanKind],
) -> None:
    app.once(tracer, **more)
    assert _where(exporter.get_finished_spans()) == [(None, None)]


def test_a_location_that_is_known_is_kept(
    app: ModuleType, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    app.once(tracer, attributes={"code.file.path": "known.py"})
    assert (exporter.get_finished_spans()[0].attributes or {})["code.file.path"] == "known.py"


def test_code_outside_the_roots_has_no_location(
    app: ModuleType, tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    provider = TracerProvider()
    provider.add_span_processor(CodeLocationProcessor([tmp_path / "elsewhere"]))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app.once(provider.get_tracer("test"))
    assert _where(exporter.get_finished_spans()) == [(None, None)]

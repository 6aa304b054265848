"""Why a trace was, or was not, reported."""

from __future__ import annotations

from dataclasses import dataclass

from detectors.finding import Finding
from detectors.merging import merge_findings
from detectors.registry import DetectorSettings
from detectors.traces.frame import build_frame
from detectors.traces.gates import NotReported
from detectors.traces.normaliser import Normaliser
from detectors.traces.trace import traces_of
from store.ports import SpanReader

_MAX_REFUSED = 200


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the detectors say of one trace.

    Attributes:
        findings: What was found in it; their rates and priorities are those of a lone request.
        not_reported: Each gate that a shape met and did not pass, with number and threshold.
        spans: How many spans of it are stored.
        complete: Every span's parent is stored, too.
    """

    findings: tuple[Finding, ...] = ()
    not_reported: tuple[NotReported, ...] = ()
    spans: int = 0
    complete: bool = True


def explain(
    reader: SpanReader, trace_id: bytes, settings: DetectorSettings | None = None
) -> Explanation | None:
    """Judge one stored trace again and tell every gate; None where it is not stored."""
    spans = reader.traces([trace_id])
    if not len(spans):
        return None
    chosen = settings or DetectorSettings()
    frame = build_frame(spans, Normaliser(cache_size=1_024))
    found: list[Finding] = []
    refused: list[NotReported] = []
    complete = True
    for trace in traces_of(frame):
        complete = complete and trace.complete
        for detector in chosen.trace_detectors().values():
            result = detector.detect(trace)
            found.extend(item for item in result.findings if item.kind not in chosen.disabled)
            refused.extend(result.not_reported)
    return Explanation(
        tuple(merge_findings(found)), tuple(refused[:_MAX_REFUSED]), len(frame.columns), complete
    )

"""What an alert complains of, by the words of its name, figure and SLO. Pure."""

from __future__ import annotations

import re
from enum import StrEnum

from store.model import Labels


class Symptom(StrEnum):
    """What an alert complains of."""

    ERRORS = "errors"
    LATENCY = "latency"
    LOAD = "load"
    SALES = "sales"
    OTHER = "other"


_SYMPTOMS = (
    (Symptom.LATENCY, re.compile(r"latency|slow|duration|response_?time|p9\d")),
    (
        Symptom.LOAD,
        re.compile(r"throughput|traffic|saturat|cpu|memory|queue|connection|scal|load|disk"),
    ),
    (Symptom.SALES, re.compile(r"order|abandon|payment|conversion|revenue|sales")),
    (Symptom.ERRORS, re.compile(r"error|fail|5xx|burn|budget|availab|success")),
)


def symptom_of(labels: Labels) -> Symptom:
    """What an alert complains of, by the words of its name, figure and SLO.

    >>> symptom_of(Labels.of(alertname="OrderRateDrop")).value
    'sales'
    """
    names = ("alertname", "kpi", "kind", "slo")
    text = " ".join(labels.get(name) for name in names).lower()
    return next((symptom for symptom, words in _SYMPTOMS if words.search(text)), Symptom.OTHER)

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


# The words of CheckoutP99High, HTTP5xxErrors, order_rate and disk-full.
_WORD = re.compile(r"\d[xX]{2}|[Pp]\d+|[A-Z]{2,}s(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _words(*words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words)})\b")


# What fails comes before where it fails: DiskErrors, OrderErrors. A budget burns for any reason.
_SYMPTOMS = (
    (
        Symptom.LATENCY,
        _words("latency", "latencies", r"slow\w*", "durations?", "response ?times?", r"p9\d+"),
    ),
    (Symptom.ERRORS, _words("errors?(?! budget)", "fail(?:s|ed|ing|ures?)?", "5xx")),
    (
        Symptom.LOAD,
        _words(
            *("throughput", "traffic", r"saturat\w*", "cpus?", "memory", r"queue\w*", "queuing"),
            *("connections?", r"(?:auto)?scal\w+", "disks?"),
            "(?:over)?load(?:s|ed)?(?! balanc)",
        ),
    ),
    (
        Symptom.SALES,
        _words("orders?", r"abandon\w*", "payments?", "conversions?", "revenues?", "sales"),
    ),
    (
        Symptom.ERRORS,
        _words(r"burn\w*", "budgets?", r"(?:un)?availab\w*", r"success\w*"),
    ),
)


def symptom_of(labels: Labels) -> Symptom:
    """What an alert complains of, by the words of its name, figure and SLO.

    >>> symptom_of(Labels.of(alertname="OrderRateDrop")).value
    'sales'
    >>> symptom_of(Labels.of(alertname="DownloadErrorsHigh")).value
    'errors'
    """
    names = ("alertname", "kpi", "kind", "slo")
    text = " ".join(" ".join(_WORD.findall(labels.get(name))) for name in names).lower()
    return next((symptom for symptom, words in _SYMPTOMS if words.search(text)), Symptom.OTHER)

"""Alertmanager's template data of a notice: what the texts of an integration may speak of.

Source: https://prometheus.io/docs/alerting/latest/notifications/
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from typing_extensions import override

from alerts.notification import Notice, NoticeAlert
from alerts.template_text import FieldList, TemplateError
from alerts.templates import render_data

_log = structlog.get_logger()
_NO_TIME = datetime(1, 1, 1, tzinfo=UTC)


class Pairs(dict[str, str]):
    """Labels or annotations, with Alertmanager's `SortedPairs`, `Names` and `Values`."""

    @override
    def get(self, key: str, default: Any = None) -> Any:
        if key in self or key not in {"SortedPairs", "Names", "Values"}:
            return super().get(key, default)
        names = sorted(self, key=lambda name: (name != "alertname", name))
        if key == "SortedPairs":
            pairs = FieldList({"Name": name, "Value": self[name]} for name in names)
            pairs.fields = {"Names": names, "Values": [self[name] for name in names]}
            return pairs
        return names if key == "Names" else [self[name] for name in names]


def template_data(notice: Notice) -> dict[str, Any]:
    """The data of a notice."""
    alerts = FieldList(_alert(alert) for alert in notice.alerts)
    alerts.fields = {
        "Firing": [_alert(alert) for alert in notice.alerts if alert.firing],
        "Resolved": [_alert(alert) for alert in notice.alerts if not alert.firing],
    }
    return {
        "Receiver": notice.receiver,
        "Status": "firing" if notice.firing else "resolved",
        "Alerts": alerts,
        "GroupLabels": Pairs(notice.group_labels.to_dict()),
        "CommonLabels": Pairs(shared([dict(alert.labels) for alert in notice.alerts])),
        "CommonAnnotations": Pairs(shared([alert.annotations for alert in notice.alerts])),
        "ExternalURL": notice.external_url,
    }


def shared(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The pairs that are in all of the mappings."""
    if not mappings:
        return {}
    first, *rest = mappings
    return {k: v for k, v in first.items() if all(other.get(k) == v for other in rest)}


def rendered(
    options: Mapping[str, str], notice: Notice, *, plain: Collection[str] = ()
) -> dict[str, str]:
    """The options with their templates filled in; those named `plain` stay as they are.

    What cannot be rendered is left out, with a log: the message then goes out with Warroom's own
    text. That is so for Alertmanager's built-in templates, too (`slack.default.title`, …).
    """
    if not any("{{" in text for text in options.values()):
        return dict(options)
    data = template_data(notice)
    result = {}
    for name, text in options.items():
        try:
            as_is = name in plain or "{{" not in text
            result[name] = text if as_is else render_data(text, data)
        except TemplateError as exc:
            _log.warning("template_not_rendered", field=name, error=str(exc))
    return result


def _alert(alert: NoticeAlert) -> dict[str, Any]:
    return {
        "Status": "firing" if alert.firing else "resolved",
        "Labels": Pairs(alert.labels.to_dict()),
        "Annotations": Pairs(alert.annotations),
        "StartsAt": datetime.fromtimestamp(alert.starts_ms / 1000, UTC),
        "EndsAt": datetime.fromtimestamp(alert.ends_ms / 1000, UTC) if alert.ends_ms else _NO_TIME,
        "GeneratorURL": alert.generator_url,
        "Fingerprint": alert.fingerprint,
    }

"""Inhibition: while a source alert fires, the targets that it explains are held back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alerts.matchers import matches_all
from alerts.route_tree import InhibitRule
from store.model import Labels

_Key = tuple[str, ...]


class Inhibitor:
    """The inhibit rules over the alerts that fire now.

    As Alertmanager: a missing label equals an empty one; an alert that matches both sides of a
    rule is not inhibited by another that matches both sides too (nor by itself).
    """

    def __init__(self, rules: Sequence[InhibitRule], firing: Iterable[tuple[str, Labels]]) -> None:
        self._rules = rules
        # For each rule and each value of its `equal` labels: (fingerprint, matches target too).
        self._sources: list[dict[_Key, list[tuple[str, bool]]]] = [{} for _ in rules]
        for fingerprint, labels in firing:
            for rule, sources in zip(rules, self._sources, strict=True):
                if matches_all(rule.source, labels):
                    both = matches_all(rule.target, labels)
                    sources.setdefault(_key(rule, labels), []).append((fingerprint, both))

    def inhibited_by(self, fingerprint: str, labels: Labels) -> str | None:
        """The fingerprint of an alert that holds this one back, if any."""
        for rule, sources in zip(self._rules, self._sources, strict=True):
            if not matches_all(rule.target, labels):
                continue
            is_source = matches_all(rule.source, labels)
            for source, both in sources.get(_key(rule, labels), ()):
                if source != fingerprint and not (both and is_source):
                    return source
        return None


def _key(rule: InhibitRule, labels: Labels) -> _Key:
    return tuple(labels.get(name) for name in rule.equal)

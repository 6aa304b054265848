"""Inhibition: while a source alert fires, the targets that it explains are held back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alerts.matchers import matches_all
from alerts.route_tree import InhibitRule
from store.model import Labels

_Key = tuple[str, ...]
_Sources = dict[_Key, list[tuple[str, bool]]]


class Inhibitor:
    """The inhibit rules over the alerts that fire now.

    As Alertmanager: a missing label equals an empty one; an alert that matches both sides of a
    rule is not inhibited by another that matches both sides too (nor by itself).
    """

    def __init__(self, rules: Sequence[InhibitRule], firing: Iterable[tuple[str, Labels]]) -> None:
        self._rules = rules
        self._firing = tuple(firing)
        # Of a rule, once a target of it was asked about: see `_sources_of`.
        self._sources: dict[int, _Sources] = {}

    def inhibited_by(self, fingerprint: str, labels: Labels) -> str | None:
        """The fingerprint of an alert that holds this one back, if any."""
        found = self.inhibition(fingerprint, labels)
        return None if found is None else found[0]

    def inhibition(self, fingerprint: str, labels: Labels) -> tuple[str, InhibitRule] | None:
        """The fingerprint of an alert that holds this one back, and the rule that says so."""
        for place, rule in enumerate(self._rules):
            if not matches_all(rule.target, labels):
                continue
            is_source = matches_all(rule.source, labels)
            for source, both in self._sources_of(place).get(_key(rule, labels), ()):
                if source != fingerprint and not (both and is_source):
                    return source, rule
        return None

    def _sources_of(self, place: int) -> _Sources:
        """For each value of the rule's `equal` labels: (fingerprint, matches target too)."""
        if place not in self._sources:
            rule = self._rules[place]
            found: _Sources = {}
            for fingerprint, labels in self._firing:
                if matches_all(rule.source, labels):
                    both = matches_all(rule.target, labels)
                    found.setdefault(_key(rule, labels), []).append((fingerprint, both))
            self._sources[place] = found
        return self._sources[place]


def _key(rule: InhibitRule, labels: Labels) -> _Key:
    return tuple(labels.get(name) for name in rule.equal)

"""Prometheus relabelling: a list of rules that changes or drops a label set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import re2


class Action(StrEnum):
    """What a rule does."""

    REPLACE = "replace"
    KEEP = "keep"
    DROP = "drop"
    KEEPEQUAL = "keepequal"
    DROPEQUAL = "dropequal"
    HASHMOD = "hashmod"
    LABELMAP = "labelmap"
    LABELDROP = "labeldrop"
    LABELKEEP = "labelkeep"
    LOWERCASE = "lowercase"
    UPPERCASE = "uppercase"


_TEMPLATE = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class RelabelRule:
    """One rule. `regex` is `pattern` as RE2 compiled it, anchored at both ends by its use."""

    action: Action = Action.REPLACE
    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    regex: Any = field(default=None, compare=False)
    target_label: str = ""
    replacement: str = "$1"
    modulus: int = 0
    pattern: str = ""


def compiled(pattern: str) -> Any:
    """A pattern for a rule.

    Raises:
        ValueError: It is no RE2 expression.
    """
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error


def relabelled(labels: Mapping[str, str], rules: Sequence[RelabelRule]) -> dict[str, str] | None:
    """The labels after every rule; None when a rule drops them."""
    current = {name: value for name, value in labels.items() if value}
    for rule in rules:
        if not _apply(rule, current):
            return None
    return {name: value for name, value in current.items() if value}


def _apply(rule: RelabelRule, labels: dict[str, str]) -> bool:
    value = rule.separator.join(labels.get(name, "") for name in rule.source_labels)
    action = rule.action
    if action in _FILTERS:
        return _kept(rule, value, labels)
    if action in (Action.LABELMAP, Action.LABELDROP, Action.LABELKEEP):
        _change_names(rule, labels)
    elif action is Action.REPLACE:
        _replace(rule, value, labels)
    elif action is Action.HASHMOD:
        digest = hashlib.md5(value.encode(), usedforsecurity=False).digest()
        labels[rule.target_label] = str(int.from_bytes(digest[8:], "big") % rule.modulus)
    else:
        lower = action is Action.LOWERCASE
        labels[rule.target_label] = value.lower() if lower else value.upper()
    return True


_FILTERS = frozenset({Action.KEEP, Action.DROP, Action.KEEPEQUAL, Action.DROPEQUAL})


def _kept(rule: RelabelRule, value: str, labels: Mapping[str, str]) -> bool:
    if rule.action in (Action.KEEPEQUAL, Action.DROPEQUAL):
        equal = labels.get(rule.target_label, "") == value
        return equal is (rule.action is Action.KEEPEQUAL)
    matches = rule.regex.fullmatch(value) is not None
    return matches is (rule.action is Action.KEEP)


def _change_names(rule: RelabelRule, labels: dict[str, str]) -> None:
    for name, value in list(labels.items()):
        match = rule.regex.fullmatch(name)
        if rule.action is Action.LABELMAP:
            if match:
                labels[_expanded(rule.replacement, match)] = value
        elif (match is not None) is (rule.action is Action.LABELDROP):
            del labels[name]


def _replace(rule: RelabelRule, value: str, labels: dict[str, str]) -> None:
    match = rule.regex.fullmatch(value)
    if match is None:
        return
    target = _expanded(rule.target_label, match)
    if _LABEL_NAME.fullmatch(target):
        labels[target] = _expanded(rule.replacement, match)


def _expanded(template: str, match: Any) -> str:
    """Go's template expansion: an unknown group is empty."""

    def group(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name is None:
            return "$"
        try:
            return match.group(int(name) if name.isdigit() else name) or ""
        except (IndexError, KeyError):
            return ""

    return _TEMPLATE.sub(group, template)

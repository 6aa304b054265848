"""Relabelling rules as Prometheus's configuration writes them."""

from __future__ import annotations

from typing import Any

from collector.config_node import Node, count, text, texts
from collector.relabel import Action, RelabelRule, compiled

_NEED_TARGET = frozenset(
    {
        Action.REPLACE,
        Action.HASHMOD,
        Action.LOWERCASE,
        Action.UPPERCASE,
        Action.KEEPEQUAL,
        Action.DROPEQUAL,
    }
)


def relabel_rules(node: Node, key: str) -> tuple[RelabelRule, ...]:
    """The rules listed under a field.

    Raises:
        ConfigError: A mistake, with its line.
    """
    return tuple(_rule(child) for child in node.children(key))


def _rule(node: Node) -> RelabelRule:
    regex = node.get("regex", lambda value: compiled(str(value)), compiled("(?s)(.*)"))
    rule = RelabelRule(
        action=node.get("action", _action, Action.REPLACE),
        source_labels=node.get("source_labels", texts, ()),
        separator=node.get("separator", text, ";"),
        regex=regex,
        pattern=str(regex.pattern),
        target_label=node.get("target_label", text, ""),
        replacement=node.get("replacement", str, "$1"),
        modulus=node.get("modulus", count, 0),
    )
    node.done()
    if rule.action in _NEED_TARGET and not rule.target_label:
        raise node.document.error(node.path, f"{rule.action.value} needs a target_label")
    if rule.action is Action.HASHMOD and not rule.modulus:
        raise node.document.error(node.path, "hashmod needs a modulus of 1 or more")
    return rule


def _action(value: Any) -> Action:
    try:
        return Action(str(value).lower())
    except ValueError:
        known = ", ".join(action.value for action in Action)
        raise ValueError(f"{value!r} is unknown; use one of {known}") from None

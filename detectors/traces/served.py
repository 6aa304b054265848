"""Requests that were served, of which the callers' own client spans are lost."""

from __future__ import annotations

from collections import Counter

from detectors.traces.call_shape import request_name
from detectors.traces.families import Form
from detectors.traces.shape import Category, Shape
from detectors.traces.trace import OPERATIONS, Trace

_SERVER = 2


def add_served(trace: Trace, forms: dict[Form, list[int]]) -> Counter[Form]:
    """Adds those that no client span stands for, by their routes.

    Returns:
        How many more each loop has of which some client spans are here.
    """
    alone = [
        span for span, kind in enumerate(trace.kind) if kind == _SERVER and _alone(trace, span)
    ]
    lost: Counter[Form] = Counter()
    called = _called(trace) if alone else {}
    for span in alone:
        key = (trace.service[span], _route(trace, span))
        scope = _scope(trace, span)
        calls = called.get(key, {})
        # Lost client spans had one caller each, and most likely the same.
        call = calls.get(scope) if scope >= 0 else next(iter(calls.values()), None)
        if call is not None:
            lost[call] += 1
        else:
            forms.setdefault(Form(scope, *key), []).append(span)
    return lost


def served_shape(trace: Trace, span: int) -> Shape:
    """What the lost client span would have told, by the route."""
    method = trace.text("http_method", span)
    route = _route(trace, span).removeprefix(f"{method} ")
    name = f"{method} {trace.service_name(span)}/{route.lstrip('/')}".strip()
    return Shape(name, Category.CALL, method or "CALL")


def _alone(trace: Trace, span: int) -> bool:
    """Was a caller named, whose own client span is not in the trace?"""
    if trace.parent_key[span] < 0:
        return False
    parent = trace.parent[span]
    if parent < 0:
        return True
    # A database may show its own side of a query.
    asked = trace.category[parent] in OPERATIONS
    return not asked and trace.service[parent] != trace.service[span]


def _route(trace: Trace, span: int) -> str:
    return trace.text("http_route", span) or request_name(trace.name(span))


def _scope(trace: Trace, span: int) -> int:
    """The request that called; -1 where it is unknown."""
    parent = trace.parent[span]
    return trace.entry[parent] if parent >= 0 else -1


def _called(trace: Trace) -> dict[tuple[int, str], dict[int, Form]]:
    """Services and routes, and for each request that calls them the form of its first call."""
    called: dict[tuple[int, str], dict[int, Form]] = {}
    for call in trace.operations:
        if trace.category[call] != Category.CALL:
            continue
        form = Form(trace.entry[call], trace.service[call], trace.form[call])
        for child in trace.children[call]:
            if trace.kind[child] == _SERVER:
                callers = called.setdefault((trace.service[child], _route(trace, child)), {})
                callers.setdefault(form.scope, form)
    return called

"""One label of many series at once: series of one metric mostly have the same names in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from store.model import METRIC_NAME, Labels

Key = tuple[str, ...] | tuple[tuple[str, str], ...]


def label_column(series: Sequence[Labels], name: str) -> list[str]:
    """The label's value of each series; empty where it has none."""
    place = _place(series, name)
    if place is not None:
        try:
            values = [pair[1] for labels in series if (pair := labels.pairs[place])[0] == name]
        except IndexError:
            values = []
        if len(values) == len(series):
            return values
    return [labels.get(name) for labels in series]


def _place(series: Sequence[Labels], name: str) -> int | None:
    """Where the label stands among those of the first series."""
    if not len(series):
        return None
    names = [pair[0] for pair in series[0].pairs]
    return names.index(name) if name in names else None


def group_keys(series: Sequence[Labels], names: Sequence[str], *, without: bool) -> Iterable[Key]:
    """For each series what tells its group: values of these labels, or all pairs but these."""
    if without:
        unwanted = frozenset((*names, METRIC_NAME))
        return [
            tuple([pair for pair in labels.pairs if pair[0] not in unwanted]) for labels in series
        ]
    if not names:
        return [()] * len(series)
    return zip(*(label_column(series, name) for name in names), strict=True)

"""What Prometheus says, word for word, beside results that native histograms take part in."""

from __future__ import annotations

from store.histogram_sums import Combined
from store.promql.context import Run
from store.promql.numbers import quoted
from store.promql.syntax import Expr


def _named(metric: str) -> str:
    return f" for metric name {quoted(metric)}" if metric else ""


def mixed_in_range(run: Run, metric: str, node: Expr) -> None:
    """A series has floats and histograms in one window."""
    run.annotations.warn(f"encountered a mix of histograms and floats{_named(metric)}", node)


def mixed_in_group(run: Run, node: Expr) -> None:
    """A group has floats and histograms at one step."""
    run.annotations.warn("encountered a mix of histograms and floats for aggregation", node)


def mixed_schemas(run: Run, metric: str, node: Expr) -> None:
    """Exponential and custom histograms do not add up."""
    run.annotations.warn(
        "vector contains a mix of histograms with exponential and custom buckets schemas"
        f"{_named(metric)}",
        node,
    )


def classic_and_native(run: Run, metric: str, node: Expr) -> None:
    """Classic buckets and a native histogram have the same name."""
    run.annotations.warn(
        f"vector contains a mix of classic and native histograms{_named(metric)}", node
    )


def not_a(kind: str, run: Run, metric: str, node: Expr) -> None:
    """`kind` is counter or gauge."""
    run.annotations.warn(f"this native histogram metric is not a {kind}: {quoted(metric)}", node)


def ignored_in_range(run: Run, metric: str, node: Expr) -> None:
    """A function of floats left histograms of a window out."""
    run.annotations.info(
        f"ignored histograms in a range containing both floats and histograms{_named(metric)}",
        node,
    )


def ignored_in_group(run: Run, operator: str, node: Expr) -> None:
    """An aggregation of floats left histograms out."""
    run.annotations.info(f"ignored histogram in {operator} aggregation", node)


def incompatible_types(run: Run, operator: str, left: str, right: str, node: Expr) -> None:
    """An operator knows no such pair; `left` and `right` are float or histogram."""
    run.annotations.info(
        f'incompatible sample types encountered for binary operator "{operator}": '
        f"{left} {operator} {right}",
        node,
    )


def incompatible_layouts(run: Run, operator: str, node: Expr) -> None:
    """Exponential and custom histograms stand on the two sides of an operator."""
    run.annotations.warn(
        f"incompatible bucket layout encountered for binary operator {operator}", node
    )


def of_combined(run: Run, found: Combined, how: str, node: Expr) -> None:
    """`how` is aggregation, addition or subtraction."""
    if found.conflicting_resets:
        run.annotations.warn(f"conflicting counter resets during histogram {how}", node)
    if found.reconciled:
        of_reconciled(run, how, node)


def of_reconciled(run: Run, how: str, node: Expr) -> None:
    """Custom bounds differed."""
    run.annotations.info(f"mismatched custom buckets were reconciled during {how}", node)


def nan_in_quantile(run: Run, effect: str, metric: str, node: Expr) -> None:
    """Observations of NaN touched a quantile."""
    run.annotations.info(
        f"input to histogram_quantile has NaN observations, {effect}{_named(metric)}", node
    )


def nan_in_fraction(run: Run, metric: str, node: Expr) -> None:
    """Observations of NaN touched a fraction."""
    run.annotations.info(
        "input to histogram_fraction has NaN observations, which are excluded from all fractions"
        f"{_named(metric)}",
        node,
    )

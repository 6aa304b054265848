"""A grammar of queries for hypothesis.

An *exact* expression has the same bits on every server: selections, counts, sums of whole numbers,
comparisons. A *rough* one may differ in its last digits, so nothing that jumps (a comparison, a
rounding, an order) is put on top of it.

Left out by rule, because Prometheus 2.x and 3.x differ there:
- several metric names below a function or an operator (3.x drops names only at the end);
- `__name__` as a label of a grouping or of label_replace, for the same reason;
- stddev and stdvar of vectors with NaN or infinities (0 in 2.x for the first one, NaN in 3.x);
- `predict_linear` of a range that `@` fixes, and such a range in a subquery that `@` fixes (2.42
  drops samples from step to step);
- atan2 of what has a name (2.x keeps it);
- subqueries of the future with `@` below (2.x moves it where the first step is the query's own);
- `timestamp` of a selector with both `@` and an offset (2.x forgets the offset);
- rate and increase of what is near zero (2.x and 3.x extrapolate to a counter's zero differently);
- calendar functions of NaN (Go's conversion to an integer is the processor's).
"""

from collections.abc import Sequence

from hypothesis import strategies as st

BASE_S = 1_700_000_000
Text = st.SearchStrategy[str]

METRICS = (
    "requests_total", "depth", "level", "gappy", "ending", "odd", "seconds_bucket", "nothing"
)  # fmt: skip
_COUNTERS = ("requests_total", "seconds_bucket")
_CALM = ("requests_total", "depth", "level", "ending")
LABELS = ("host", "route", "le", "zone", "missing")
_VALUES = ("a", "b", "c", "/a", "/b", "x", "0.5", "", "d")
_PATTERNS = ("a|b", "[bc]", "/.*", ".+", ".*", "", "x?", "(0|1).*", "[^a]+", "(?i:A)")
_EXACT_FOLDS = (
    "changes", "resets", "count_over_time", "min_over_time", "max_over_time", "sum_over_time",
    "last_over_time", "present_over_time",
)  # fmt: skip
_ROUGH_FOLDS = (
    "delta", "irate", "idelta", "deriv", "avg_over_time", "stddev_over_time",
    "stdvar_over_time",
)  # fmt: skip
_MATHS = (
    "ln", "log2", "log10", "sqrt", "exp", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "deg", "rad",
)  # fmt: skip
_CALENDAR = (
    "minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"
)  # fmt: skip


def _one_of(texts: Sequence[str]) -> Text:
    return st.sampled_from(texts)


def _matchers() -> Text:
    plain = st.tuples(_one_of(LABELS), _one_of(("=", "!=")), _one_of(_VALUES))
    regex = st.tuples(_one_of(LABELS), _one_of(("=~", "!~")), _one_of(_PATTERNS))
    one = st.one_of(plain, regex).map(lambda parts: f'{parts[0]}{parts[1]}"{parts[2]}"')
    return st.lists(one, max_size=2).map(lambda found: "{" + ",".join(found) + "}" if found else "")


def _moved() -> Text:
    offset = st.integers(-15, 15).map(lambda n: f" offset {n * 20}s" if n else "")
    return st.tuples(offset, _moments()).map("".join)


def _moments() -> Text:
    return _one_of(("", "", "", "", " @ start()", " @ end()", f" @ {BASE_S + 1500}"))


def selectors(metrics: Sequence[str] = METRICS) -> Text:
    """An instant selector of one metric."""
    return st.tuples(_one_of(metrics), _matchers(), _moved()).map("".join)


def ranges(metrics: Sequence[str] = METRICS) -> Text:
    """A range selector; its length is any whole number of seconds."""
    return st.tuples(_one_of(metrics), _matchers(), _lengths(), _moved()).map("".join)


def _lengths() -> Text:
    return st.integers(20, 400).map(lambda n: f"[{n}s]")


def _subqueries(inner: Text) -> Text:
    # No instant of the inner grid, a multiple of ten seconds, is ever at a window's edge.
    length = st.integers(3, 30).map(lambda n: f"{n * 10 + 1}s")
    step = _one_of(("30s", "20s", "50s", "1m", ""))
    offset = st.integers(0, 5).map(lambda n: f" offset {n}m" if n else "")
    return st.tuples(inner, length, step, offset).map(
        lambda parts: f"({parts[0]})[{parts[1]}:{parts[2]}]{parts[3]}"
    )


def _grouping() -> Text:
    names = st.lists(_one_of(LABELS), max_size=2, unique=True).map(", ".join)
    by = st.tuples(_one_of((" by (", " without (")), names).map(lambda parts: "".join(parts) + ") ")
    return st.one_of(st.just(" "), by)


def _matching(*, sets: bool) -> Text:
    names = st.lists(_one_of(LABELS), max_size=2, unique=True).map(", ".join)
    side = st.tuples(_one_of(("on", "ignoring")), names).map(
        lambda parts: f" {parts[0]} ({parts[1]})"
    )
    if sets:
        return st.one_of(st.just(""), side)
    many = _one_of(("", "", " group_left ()", " group_right ()", " group_left (zone)"))
    return st.one_of(st.just(""), st.tuples(side, many).map("".join))


def _aggregated(operators: Sequence[str], inner: Text) -> Text:
    return st.tuples(_one_of(operators), _grouping(), inner).map(
        lambda parts: f"{parts[0]}{parts[1]}({parts[2]})"
    )


def _numbers() -> Text:
    return _one_of(("0", "1", "-1", "2", "40", "0.5", "7", "1000", "NaN", "Inf", "-Inf"))


def _binary(left: Text, operators: Text, right: Text, *, sets: bool = False) -> Text:
    return st.tuples(left, operators, _matching(sets=sets), right).map(
        lambda parts: f"({parts[0]}) {parts[1]}{parts[2]} ({parts[3]})"
    )


def _with_number(inner: Text, operators: Text) -> Text:
    return st.tuples(inner, operators, _numbers(), st.booleans()).map(
        lambda parts: (
            f"({parts[0]}) {parts[1]} {parts[2]}"
            if parts[3]
            else f"{parts[2]} {parts[1]} ({parts[0]})"
        )
    )


def _called(names: Sequence[str], inner: Text, *more: str) -> Text:
    tail = "".join(f", {one}" for one in more)
    return st.tuples(_one_of(names), inner).map(lambda parts: f"{parts[0]}({parts[1]}{tail})")


_COMPARISONS = _one_of(("==", "!=", ">", "<", ">=", "<="))
_BOOL = _one_of(("== bool", "!= bool", "> bool", "< bool", ">= bool", "<= bool"))
_SETS = _one_of(("and", "or", "unless"))


def _exact_step(inner: Text) -> Text:
    labelled = _one_of((
        "label_replace({}, 'zone', '$1-x', 'route', '/(.*)')",
        "label_replace({}, 'host', '', 'route', '/a')",
        "label_replace({}, 'host', 'q${{1}}$$', 'host', '(a|b)?.*')",
        "label_join({}, 'both', '-', 'host', 'route')",
        "label_join({}, 'host', '')",
    ))  # fmt: skip
    return st.one_of(
        _aggregated(("sum", "min", "max", "count", "group"), inner),
        _aggregated(("sum", "min", "max", "count", "group"), inner),
        _with_number(inner, st.one_of(_COMPARISONS, _BOOL, _one_of(("+", "-", "*")))),
        _binary(inner, _SETS, inner, sets=True),
        _binary(inner, st.one_of(_COMPARISONS, _BOOL, _one_of(("+", "-", "*", "%"))), inner),
        _called(("abs", "sgn", "ceil", "floor", "-", "+", "sort", "sort_desc", "absent"), inner),
        _called(("round",), inner, "20"),
        _called(("clamp",), inner, "20", "60"),
        _called(("clamp_max", "clamp_min"), inner, "30"),
        _called(_EXACT_FOLDS, _subqueries(inner)),
        _called(("absent_over_time",), _subqueries(inner)),
        st.tuples(labelled, inner).map(lambda parts: parts[0].format(parts[1])),
        st.tuples(_grouping(), inner).map(lambda parts: f'count_values{parts[0]}("v", {parts[1]})'),
        inner.map(lambda text: f"vector(scalar({text}))"),
    )


def _exact_leaf() -> Text:
    untied = st.tuples(_matchers(), _moved()).map(lambda parts: "level" + "".join(parts))
    return st.one_of(
        selectors(),
        selectors(),
        _called(_EXACT_FOLDS, ranges()),
        _called(("absent",), selectors()),
        st.tuples(
            _one_of(_EXACT_FOLDS), _one_of(METRICS), _moved(), st.integers(3, 30), _moments()
        ).map(lambda p: f"{p[0]}(({p[1]}{p[2]})[{p[3]}1s:20s]{p[4]})"),
        _called(("absent_over_time",), ranges()),
        _called(_CALENDAR, selectors(_CALM).map(lambda text: f"{text} * 86399")),
        st.tuples(_one_of(("topk", "bottomk")), _grouping(), st.integers(-1, 3), untied).map(
            lambda parts: f"{parts[0]}{parts[1]}({parts[2]}, {parts[3]})"
        ),
        _one_of(("vector(1)", "vector(time())", "year()", "hour()", "vector(-0)")),
    )


def _rough_step(inner: Text) -> Text:
    q = _one_of(("0.9", "0", "1", "0.35", "-1", "2", "NaN"))
    return st.one_of(
        _aggregated(("avg", "sum", "min", "max"), inner),
        st.tuples(_grouping(), q, inner).map(
            lambda parts: f"quantile{parts[0]}({parts[1]}, {parts[2]})"
        ),
        _with_number(inner, _one_of(("+", "-", "*", "/", "^"))),
        _binary(inner, _one_of(("+", "-", "*", "/")), inner),
        _binary(_called(("-",), inner), st.just("atan2"), inner),
        _called(_MATHS, inner),
        _called(("avg_over_time", "sum_over_time", "min_over_time"), _subqueries(inner)),
    )


def _rough_leaf() -> Text:
    q = _one_of(("0.9", "0", "1", "0.35", "-1", "2", "NaN"))
    return st.one_of(
        _called(("timestamp",), _one_of(METRICS)),
        _called(("timestamp",), st.tuples(_one_of(METRICS), _matchers(), _moments()).map("".join)),
        _called(_ROUGH_FOLDS, ranges()),
        _called(("rate", "increase"), ranges(_COUNTERS)),
        st.tuples(q, ranges()).map(lambda parts: f"quantile_over_time({parts[0]}, {parts[1]})"),
        st.tuples(_one_of(METRICS), _matchers(), _lengths(), _one_of(("300", "-60", "0"))).map(
            lambda parts: f"predict_linear({parts[0]}{parts[1]}{parts[2]} offset 1m, {parts[3]})"
        ),
        _aggregated(
            ("stddev", "stdvar"), st.one_of(selectors(_CALM), _called(("rate",), ranges(_COUNTERS)))
        ),
        ranges().map(lambda text: f"double_exponential_smoothing({text}, 0.4, 0.7)"),
        st.tuples(q, _one_of(("le", "le, route", "le, host")), st.integers(40, 300)).map(
            lambda parts: (
                f"histogram_quantile({parts[0]}, sum by ({parts[1]}) "
                f"(rate(seconds_bucket[{parts[2]}s])))"
            )
        ),
        st.tuples(q, _matchers()).map(
            lambda parts: f"histogram_quantile({parts[0]}, seconds_bucket{parts[1]})"
        ),
    )


def exact_queries() -> Text:
    return st.recursive(_exact_leaf(), _exact_step, max_leaves=4)


def rough_queries() -> Text:
    leaf = st.one_of(_rough_leaf(), _rough_leaf(), exact_queries())
    return st.recursive(leaf, _rough_step, max_leaves=3)

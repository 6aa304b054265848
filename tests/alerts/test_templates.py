"""Go templates as rule files use them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.template_functions import TemplateContext
from alerts.template_syntax import checked_template
from alerts.template_text import TemplateError, go_float
from alerts.templates import render, render_or_explain

LABELS = {"instance": "db1:9100", "job": "mysql"}
CONTEXT = TemplateContext(now_ms=0, external_url="http://w.test/x")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{ $labels.instance }} of {{ .Labels.job }}", "db1:9100 of mysql"),
        ("{{ $labels.missing }}|", "|"),
        ("{{ $value }} {{ .Value | printf `%.2f` }}", "1234.5 1234.50"),
        ("{{ $value | humanize }} {{ humanize1024 2048.0 }}", "1.234k 2ki"),
        ("{{ humanizeDuration 90061 }}; {{ humanizePercentage 0.1234 }}", "1d 1h 1m 1s; 12.34%"),
        ("{{ humanizeTimestamp 1435065584.128 }}", "2015-06-23 13:19:44.128 +0000 UTC"),
        ("a {{- /* nothing */ -}} b", "ab"),
        ("{{ if gt $value 2000.0 }}big{{ else if eq $labels.job `mysql` }}db{{ end }}", "db"),
        (
            "{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}",
            "instance=db1:9100;job=mysql;",
        ),
        ("{{ with $x := $labels.job }}{{ toUpper $x }}{{ end }}", "MYSQL"),
        ('{{ reReplaceAll "(.*):.*" "$1" $labels.instance }}', "db1"),
        ("{{ stripPort $labels.instance }} {{ title `slow query` }}", "db1 Slow Query"),
        ("{{ pathPrefix }} {{ urlQueryEscape `a b&c` }}", "/x a+b%26c"),
        ('{{ if and (match "db.*" $labels.instance) (ne $labels.job "x") }}y{{ end }}', "y"),
    ],
)
def test_a_template_renders_as_in_prometheus(template: str, text: str) -> None:
    assert render(template, LABELS, 1234.5, CONTEXT) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ $labels.a",
        "{{ end }}",
        "{{ if }}x{{ end }}",
        "{{ if .Value }}",
        '{{ template "x" . }}',
        "{{ $x := }}",
    ],
)
def test_a_template_that_is_not_well_formed_is_refused_at_load(template: str) -> None:
    with pytest.raises(TemplateError):
        checked_template(template)


def test_an_error_while_rendering_is_in_the_text_so_that_the_page_goes_out() -> None:
    text = render_or_explain("Lag", "{{ nope }}", LABELS, 1.0, CONTEXT)
    assert text.startswith("<error expanding template: error executing template __alert_Lag: ")
    assert text.endswith("function 'nope' not defined>")


def test_a_template_cannot_reach_out_of_its_data() -> None:
    for attack in (
        "{{ $labels.__class__ }}",
        "{{ .Value.__class__.__mro__ }}",
        "{{ $labels.keys }}",
    ):
        assert "class" not in render_or_explain("A", attack, {}, 1.0, CONTEXT).replace(
            "__class__", ""
        )


def test_a_template_that_grows_without_end_is_stopped() -> None:
    loops = "{{ range $a := args 1 2 3 4 5 6 7 8 9 0 }}" * 8 + "xxxxxxxxxx" + "{{ end }}" * 8
    with pytest.raises(TemplateError, match=r"grows|steps"):
        render(loops, LABELS, 1.0, CONTEXT)


@given(st.text(alphabet='{}.$|()"`-/* abrange ifend:=1', max_size=60))
def test_any_text_renders_or_explains(text: str) -> None:
    assert isinstance(_parsed_or_none(text), str)


def _parsed_or_none(text: str) -> str:
    return render_or_explain("A", text, LABELS, 1.0, CONTEXT)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_float_reads_back_as_itself(value: float) -> None:
    assert float(go_float(value)) == value

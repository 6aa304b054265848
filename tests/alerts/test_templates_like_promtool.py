"""Every template here comes out of promtool as it comes out of Warroom."""

# ruff: noqa: E501 - rules and templates read best on one line
from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from alerts.template_functions import TemplateContext
from alerts.templates import render, render_or_explain
from store.model import Labels
from store.promql.engine import Engine
from store.promql.testing import MemoryReader
from tests.alerts.promtool import asked_warroom, promtool

VALUES = (
    *(0, 1, 0.5, -1, 999, 1000, 1234.5678, 12345678, 1e18, 1e-9, 0.00001234, 1023, 1024, 1 << 20),
    *(59.9, 60, 61.5, 3599, 3600, 86400, 90061, 1e6, -3661, 0.1234567, 100, 99999, 123456.7),
    *(float("inf"), float("-inf"), 1795766400.123, 2**53, 1e-5, 1.5e-7),
)
OF_VALUES = (
    *("{{ $value }}", "{{ .Value }}", "{{ $value | humanize }}", "{{ $value | humanize1024 }}"),
    *("{{ $value | humanizeDuration }}", "{{ humanizePercentage $value }}"),
    *(
        '{{ printf "%.2f" $value }}',
        '{{ printf "%g %e" $value $value }}',
        '{{ printf "%v" $value }}',
    ),
    *('{{ printf "%8.3f|%-8.1f|%+.1f" $value $value $value }}', '{{ printf "%.0f" $value }}'),
    *("{{ if gt $value 100.0 }}big{{ else if lt $value 0.0 }}small{{ else }}mid{{ end }}",),
    *("{{ with $value }}some {{ . }}{{ else }}none{{ end }}", "{{ eq $value 1.0 }}"),
    *('{{ printf "%.3g %G" $value $value }}', "{{ print $value }}", "{{ len (print $value) }}"),
    *('{{ printf "%06.2f" $value }}', '{{ printf "%s" (humanize $value) }}'),
)
ONCE = (
    "plain",
    "{{ $labels.instance }} {{ .Labels.job }} [{{ $labels.absent }}]",
    "{{ $labels }}",
    "{{ $externalLabels.site }} {{ .ExternalLabels.site }} {{ $externalURL }} {{ .ExternalURL }}",
    '{{ $labels.job | toUpper }} {{ toLower "ABC" }} {{ title "some words of-it it\'s x_y" }}',
    '{{ reReplaceAll "(.*):(.*)" "$2-${1}" $labels.instance }}',
    '{{ reReplaceAll "d(b)" "[$1x]" $labels.instance }} {{ reReplaceAll "a" "$" "bab" }}',
    '{{ match "d.*" $labels.instance }} {{ match "^x" $labels.instance }}',
    '{{ stripPort $labels.instance }} {{ stripPort "[::1]:80" }} {{ stripPort "host" }}',
    '{{ stripDomain "db1.shop.example:9100" }} {{ stripDomain "10.0.0.1:80" }} {{ stripDomain "a.b" }}',
    '{{ parseDuration "1h30m" }} {{ parseDuration "5s" | humanizeDuration }}',
    '{{ safeHtml "<b>" }} {{ "a&b" | html }} {{ "a b/c" | urlquery }}',
    '{{ printf "%d %5d %-5d| %05d %x" 42 42 42 42 255 }} {{ printf "%q %s %v" "a\\"b" "c" true }}',
    '{{ printf "%d%%" 5 }} {{ printf "%s" }} {{ printf "%t" true }} {{ printf "%5s|%-5s|" "ab" "cd" }}',
    '{{ printf "%.2s" "abcdef" }} {{ printf "%c" 65 }}',
    '{{ range $i, $e := query "v" | sortByLabel "job" }}{{ $i }}={{ $e.Labels.job }}:{{ $e.Value }},{{ end }}',
    '{{ range query "v" | sortByLabel "job" }}{{ .Labels.job }} {{ .Value | humanize }};{{ end }}',
    '{{ range query "nothing" }}x{{ else }}empty{{ end }}',
    "{{ with query \"v{job='api'}\" }}{{ . | first | value | humanize }}{{ end }}",
    '{{ query "v{job=\'api\'}" | first | label "instance" }} {{ len (query "v") }}',
    "{{ with printf \"v{job='%s'}\" $labels.job | query }}{{ . | first | value }}{{ end }}",
    "{{ range $k, $v := $labels }}{{ $k }}:{{ $v }} {{ end }}",
    '{{ if and $labels.job (eq $labels.job "web") }}yes{{ end }}{{ if not $labels.absent }}no{{ end }}',
    '{{ if or (eq $labels.job "x" "web") false }}either{{ end }} {{ ne 1 2 }} {{ le 1 1 }} {{ ge "b" "a" }}',
    '{{- " trimmed " -}}   x {{/* nothing */}} y {{- /* nothing */ -}}  z',
    '{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }} {{ with $y := "q" }}{{ $y }}{{ end }}',
    '{{ index $labels "job" }} {{ index (query "v" | sortByLabel "job") 0 | value }}',
    '{{ `raw \\n text` }} {{ "tab\\tend" }} {{ print 1 2 "x" "y" 3 }} {{ println "a" 1 }}|',
    '{{ 1.5 }} {{ -3 }} {{ 1e3 }} {{ true }} {{ len "äö" }} {{ slice "abcdef" 1 3 }}',
    "{{ humanizeTimestamp 1795766400.5 }} {{ humanizeTimestamp 0 }} {{ toTime 1795766400.0 }}",
    '{{ (index $labels "job") | printf "%s-%s" "a" }} {{ (query "v" | sortByLabel "job" | first).Value }}',
    '{{ args 1 "b" }} {{ humanize "1500" }} {{ humanizePercentage "0.25" }}',
    '{{ range $i, $e := query "v" }}{{ if eq $i 1 }}{{ break }}{{ end }}{{ $i }}{{ end }}',
    '{{ range $i, $e := query "v" }}{{ if eq $i 0 }}{{ continue }}{{ end }}{{ $i }}{{ end }}',
    '{{ define "line" }}<{{ . }}>{{ end }}{{ template "line" $labels.job }}',
    '{{ define "sum" }}{{ .arg0 }}+{{ .arg1 }}{{ end }}{{ template "sum" (args 1 $value) }}',
    '{{ block "b" . }}{{ .Value }}{{ end }}',
    '{{ "it\'s <a href=x>&\\n" | js }} {{ js "ä\\t\\"" 1 2 }}',
    '{{ (1795766400.5 | toTime).Format "2006-01-02T15:04:05.000Z07:00 Mon Monday Jan January _2 2 1 3:04PM 06 MST -0700 002" }}',
    '{{ with 1790000000.0 | toTime }}{{ .Year }} {{ .Month }} {{ .Weekday }} {{ .Unix }} {{ .Hour }} {{ .UTC.Format "Month .999 pm 5s 4m" }}{{ end }}',
    '{{ graphLink "up == 1" }} {{ tableLink "up" }} ',
    '{{ "quoted \\"x\\"" }}',
)
KNOWN_SERIES = {"web": 7.5, "api": 1234.0}


def engine(value: float) -> Engine:
    reader = MemoryReader()
    for job, known in KNOWN_SERIES.items():
        reader.put(Labels.of(__name__="v", job=job, instance="db1.shop:9100"), [0], [known])
    reader.put(Labels.of(LABELS), [0], [value])
    return Engine(reader)


LABELS = {"__name__": "x", "job": "web", "instance": "db1:9100"}
URL = "http://w.test/x"


def rendered(text: str, value: float) -> str:
    context = TemplateContext(
        now_ms=0,
        query=lambda expr: engine(value).instant(expr, 0),
        external_url=URL,
        external_labels={"site": "eu"},
    )
    return render(text, LABELS, value, context)


def notation(value: float) -> str:
    return repr(float(value)).replace("inf", "Inf")


def write(directory: Path, name: str, texts: dict[str, str], *values: float) -> str:
    rule = {"alert": "T", "expr": "x", "annotations": texts}
    (directory / f"{name}.rules.yml").write_text(
        json.dumps({"groups": [{"name": "g", "rules": [rule]}]})
    )
    tests = [case(texts, value) for value in values]
    file = {"rule_files": [f"{name}.rules.yml"], "tests": tests}
    (directory / f"{name}.yml").write_text(json.dumps(file))
    return f"{name}.yml"


def case(texts: dict[str, str], value: float) -> dict[str, object]:
    series = [
        {"series": f'v{{job="{job}",instance="db1.shop:9100"}}', "values": str(known)}
        for job, known in KNOWN_SERIES.items()
    ]
    series.append({"series": 'x{job="web",instance="db1:9100"}', "values": notation(value)})
    expected = {
        "exp_labels": {"job": "web", "instance": "db1:9100"},
        "exp_annotations": {key: rendered(text, float(value)) for key, text in texts.items()},
    }
    return {
        "interval": "1m",
        "name": repr(value),
        "external_labels": {"site": "eu"},
        "external_url": URL,
        "input_series": series,
        "alert_rule_test": [{"eval_time": "0s", "alertname": "T", "exp_alerts": [expected]}],
    }


def agrees(directory: Path, name: str) -> None:
    told = subprocess.run(
        [promtool(), "test", "rules", name],
        check=False,
        cwd=directory,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert asked_warroom(directory, [name])[name].passed


def test_values_print_as_in_promtool(tmp_path: Path) -> None:
    texts = {f"k{place:02}": text for place, text in enumerate(OF_VALUES)}
    agrees(tmp_path, write(tmp_path, "values", texts, *VALUES))


def test_everything_else_renders_as_in_promtool(tmp_path: Path) -> None:
    texts = {f"k{place:02}": text for place, text in enumerate(ONCE)}
    agrees(tmp_path, write(tmp_path, "once", texts, 7.5))


UNTOLD = (
    *("{{ nope }}", '{{ first (query "none") }}', '{{ query "sum(" }}'),
    *('{{ $labels.job.Format "2006" }}', "{{ (toTime $value).Nope }}", "{{ (toTime 1.0).Format }}"),
    *("{{ (toTime $value).Year 1 }}", "{{ (toTime $value).Format 1 }}"),
)


@pytest.mark.parametrize("text", UNTOLD)
def test_what_cannot_be_rendered_still_pages_with_the_reason(text: str) -> None:
    context = TemplateContext(query=lambda expr: engine(1).instant(expr, 0))
    told = render_or_explain("T", text, LABELS, 1.0, context)
    assert told.startswith("<error expanding template: error executing template __alert_T: ")

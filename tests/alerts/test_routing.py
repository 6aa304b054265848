"""Routing as Alertmanager routes; `amtool` is the judge."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from alerts.routing import default_routing, parse_alertmanager, receivers_of
from store.errors import ConfigError
from store.model import Labels

CONFIG = """
route:
  receiver: fallback
  group_by: [alertname]
  routes:
    - matchers: [severity="page", service=~"shop|cart"]
      receiver: shop-pager
      continue: true
      routes:
        - matchers: ['team!~"web.*"']
          receiver: not-web
        - match_re: {team: web.+}
          receiver: web
    - match: {severity: page}
      receiver: pager
    - matchers: ['{severity="ticket",team!=""}']
      receiver: tickets
    - matchers: [service="cart"]
      group_by: ['...']
      routes:
        - matchers: [severity=~"in.o"]
          receiver: infos
receivers:
  - {name: fallback}
  - {name: shop-pager}
  - {name: not-web}
  - {name: web}
  - {name: pager}
  - {name: tickets}
  - {name: infos}
"""


def test_receivers_are_those_that_amtool_names(tmp_path: Path) -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        if os.environ.get("CI") == "true":
            pytest.fail("amtool is missing (Debian package prometheus-alertmanager)")
        pytest.skip("amtool is not installed")
    file = tmp_path / "am.yml"
    file.write_text(CONFIG)
    routing = parse_alertmanager(CONFIG, "am.yml")
    severities, services = ("page", "ticket", "info", ""), ("shop", "cart", "api")
    for severity, service, team in itertools.product(severities, services, ("web1", "ops", "")):
        labels = {"alertname": "X", "severity": severity, "service": service, "team": team}
        given = {name: value for name, value in labels.items() if value}
        arguments = [f"{name}={value}" for name, value in given.items()]
        told = subprocess.run(
            [amtool, "config", "routes", "test", f"--config.file={file}", *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        assert ",".join(receivers_of(routing, Labels.of(given))) == told.stdout.strip(), given


def test_children_inherit_and_the_three_dots_mean_every_label() -> None:
    routing = parse_alertmanager(CONFIG, "am.yml")
    shop, _, _, cart = routing.route.routes
    assert shop.group_by == ("alertname",)
    assert cart.group_by is None
    assert cart.receiver == "fallback"
    assert shop.key == '{}/{service=~"shop|cart",severity="page"}'


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("route: {receiver: a}\n", 1, "not defined"),
        ("receivers: [{name: a}]\n", 1, "a route is needed"),
        ("route:\n  receiver: a\n  group_wiat: 1s\nreceivers: [{name: a}]", 3, "group_wait"),
        ("route:\n  receiver: a\n  group_wait: 1 sec\nreceivers: [{name: a}]", 3, "duration"),
        (
            "route: {receiver: a}\nreceivers:\n- name: a\n  telegram_configs: []",
            4,
            "pagerduty_conf",
        ),
        ("route: {receiver: a}\nreceivers:\n- name: a\n- name: a", 4, "twice"),
        (
            "route:\n  receiver: a\n  routes:\n  - matchers: ['a=~\"(\"']\nreceivers: [{name: a}]",
            4,
            "RE2",
        ),
        ("route:\n  receiver: a\n  matchers: [a=b]\nreceivers: [{name: a}]", 3, "root"),
        (
            "route: {receiver: a}\nreceivers:\n- name: a\n  pagerduty_configs: [{}]",
            4,
            "routing_key",
        ),
    ],
)
def test_a_mistake_is_reported_where_it_is(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_alertmanager(text, "am.yml")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"am.yml:{line}: ")
    assert words in str(caught.value)


def test_secrets_come_from_files_and_variables_and_are_never_shown() -> None:
    text = """
route: {receiver: a}
receivers:
  - name: a
    pagerduty_configs: [{routing_key_file: /run/key}]
    webhook_configs: [{url_env: HOOK, secret: whsec_c2VjcmV0}]
"""
    secrets = {("file", "/run/key"): "K3Y\n", ("env", "HOOK"): "https://hook.test/t0ken"}
    routing = parse_alertmanager(text, "am.yml", read_secret=lambda *ref: secrets[ref])
    pager, hook = routing.receivers["a"].integrations
    assert pager.secrets["routing_key"].value == "K3Y"
    assert hook.secrets["url"].value == "https://hook.test/t0ken"
    shown = repr(routing) + routing.text
    for secret in ("K3Y", "t0ken", "c2VjcmV0"):
        assert secret not in shown


def test_without_configuration_unknown_severities_reach_people() -> None:
    routing = default_routing()
    assert receivers_of(routing, Labels.of(severity="critical")) == ["on-call"]
    assert receivers_of(routing, Labels.of(alertname="x")) == ["on-call"]
    assert receivers_of(routing, Labels.of(severity="info")) == ["wall-only"]

"""Starting the demo: what is refused, and what Warroom is told."""

from __future__ import annotations

import argparse
import socket
from datetime import date
from pathlib import Path

import pytest
import yaml

from store.errors import WarroomError
from warroom.config import Options, load
from warroom.demo.plan import Plan, Ports
from warroom.demo.run import add_arguments, run_demo
from warroom.watch import business_settings


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("flag", ["--port", "--shop-port", "--inventory-port", "--pagerduty-port"])
def test_a_taken_port_is_told_with_the_option_that_changes_it(flag: str, tmp_path: Path) -> None:
    others = {"--port", "--shop-port", "--inventory-port", "--pagerduty-port"} - {flag}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = [flag, str(port), *(word for other in sorted(others) for word in (other, "0"))]
        with pytest.raises(WarroomError, match=rf"port {port} is taken(.|\n)*{flag} PORT"):
            run_demo(_arguments(*words, "--data-dir", str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--speed", "0"), ("--scale", "99")])
def test_a_senseless_pace_is_refused(words: tuple[str, str]) -> None:
    with pytest.raises(WarroomError, match="--speed is"):
        run_demo(_arguments(*words))


def test_the_written_configuration_is_one_that_warroom_takes(tmp_path: Path) -> None:
    plan = Plan(tmp_path, Ports(pagerduty=9_999), "token", date(2026, 11, 23))
    plan.write_config()
    settings = load(Options(config=str(plan.config_file)), {})
    assert [Path(file.name).name for file in settings.slo_files] == ["slos.yml"]
    assert settings.alertmanager is not None
    receivers = yaml.safe_load(settings.alertmanager.text)["receivers"]
    urls = {receivers[0]["pagerduty_configs"][0]["url"], receivers[1]["webhook_configs"][0]["url"]}
    assert urls == {"http://127.0.0.1:9999/v2/enqueue", "http://127.0.0.1:9999/webhook"}
    assert settings.file.scrape_configs[0]["scrape_interval"] == "2s"
    sales = [(sale.name, sale.first) for sale in business_settings(settings).calendar]
    assert sales == [
        ("black-friday", date(2025, 11, 28)),
        ("black-friday", date(2026, 11, 27)),
    ]

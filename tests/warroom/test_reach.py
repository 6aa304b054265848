"""Receivers that do not answer are told with their place, and without their secrets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from alerts.route_tree import Integration, Secret
from warroom.check import check
from warroom.config import Options
from warroom.reach import address_of


@pytest.fixture
def answering() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that nobody listens at, and nobody else can take meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


AM = """\
route: {{receiver: up}}
receivers:
  - name: up
    webhook_configs: [{{url: "http://127.0.0.1:{up}/hook/secret-of-up"}}]
  - name: down
    email_configs:
      - {{to: a@x.test, from: b@x.test, smarthost: "127.0.0.1:{down}", require_tls: false}}
    webhook_configs: [{{url: "http://127.0.0.1:{down}/hook/secret-of-down"}}]
"""


@pytest.mark.parametrize("inline", [False, True])
def test_a_receiver_that_does_not_answer_is_told_with_file_and_line(
    tmp_path: Path, answering: int, silent: int, *, inline: bool
) -> None:
    text = AM.format(up=answering, down=silent)
    config = tmp_path / "warroom.yaml"
    if inline:
        config.write_text("alerting:\n" + "".join(f"  {line}\n" for line in text.splitlines()))
    else:
        (tmp_path / "am.yml").write_text(text)
        config.write_text("alertmanager_file: am.yml\n")
    told: list[str] = []
    assert check(Options(config=str(config)), told.append, reach=True) == 0
    file, line = ("warroom.yaml", 9) if inline else ("am.yml", 8)
    warned = [line for line in told if line.startswith("WARN")]
    assert len(warned) == 2
    assert any(f"{file}:{line}: the receiver 'down' (webhook)" in entry for entry in warned)
    assert all(f"127.0.0.1:{silent}" in entry and "check the address" in entry for entry in warned)
    assert "secret-of" not in "\n".join(told)


@pytest.mark.parametrize(
    ("integration", "address"),
    [
        (Integration("pagerduty", options={"url": "https://x.test/v2"}), ("x.test", 443)),
        (Integration("webhook", secrets={"url": Secret("http://x.test:81/a")}), ("x.test", 81)),
        (Integration("email", options={"smarthost": "mail.test:587"}), ("mail.test", 587)),
        (Integration("apprise", secrets={"url": Secret("tgram://token/chat")}), None),
        (Integration("odd"), None),
    ],
)
def test_an_integration_s_address_is_a_host_and_a_port(
    integration: Integration, address: tuple[str, int] | None
) -> None:
    assert address_of(integration) == address


def test_a_pattern_that_matches_no_file_is_noted(tmp_path: Path) -> None:
    config = tmp_path / "warroom.yaml"
    config.write_text("evaluation_interval: 5s\nrule_files: ['rules/*.yml']\n")
    told: list[str] = []
    assert check(Options(config=str(config)), told.append) == 0
    assert any("warroom.yaml:2: rules/*.yml matches no file" in line for line in told)

"""A real Prometheus writes to the running service: nothing fails, nothing is sent twice."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.service import Warroom, free_port, needs, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, external_labels: {{region: berlin}}}}
scrape_configs:
  - job_name: prometheus
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
remote_write:
  - url: {url}/api/v1/write
    send_exemplars: true
    send_native_histograms: true
    queue_config: {{max_samples_per_send: 500, batch_send_deadline: 500ms}}
    metadata_config: {{send_interval: 1s}}
"""
COUNTERS = "prometheus_remote_storage_"


class Sender:
    """A Prometheus that scrapes itself each second."""

    def __init__(self, directory: Path, warroom_url: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = directory / "prometheus.yml"
        config.write_text(CONFIG.format(port=port, url=warroom_url))
        self._log = (directory / "prometheus.log").open("wb")
        command = [
            needs("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=native-histograms,exemplar-storage",
        ]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def count(self, name: str) -> float:
        """The sum of one of its own counters of remote storage, 0 while it does not answer."""
        try:
            lines = httpx.get(f"{self.url}/metrics", timeout=5).text.splitlines()
        except httpx.HTTPError:
            return 0.0
        wanted = (f"{COUNTERS}{name}{{", f"{COUNTERS}{name} ")
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(wanted))

    def ask(self, expr: str) -> int:
        return asked(self.url, expr)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


def asked(url: str, expr: str) -> int:
    """The first value of an instant query, 0 while there is none."""
    try:
        answer = httpx.post(f"{url}/api/v1/query", data={"query": expr}, timeout=20).json()
    except httpx.HTTPError:
        return 0
    found = answer["data"]["result"]
    return int(float(found[0]["value"][1])) if found else 0


@pytest.fixture
def sender(warroom: Warroom, tmp_path: Path) -> Iterator[Sender]:
    needs("prometheus")  # before the service is started for nothing
    warroom.start()
    found = Sender(tmp_path, warroom.url)
    yield found
    found.stop()


# About 700 a second: some seconds, and five minutes.
@pytest.mark.parametrize("samples", [2_000, pytest.param(200_000, marks=pytest.mark.soak)])
def test_a_real_prometheus_writes_without_a_failure(
    warroom: Warroom, sender: Sender, samples: int
) -> None:
    until(lambda: sender.count("samples_total") > samples, "samples were sent", 60 + samples / 50)
    until(lambda: sender.count("metadata_total") > 0, "metadata was sent", 60)
    for kind in ("samples", "metadata", "exemplars", "histograms"):
        assert sender.count(f"{kind}_failed_total") == 0
        assert sender.count(f"{kind}_retried_total") == 0
    assert sender.count("samples_dropped_total") == 0
    # What one scrape brought is there whole, but for series that are born between two of them.
    series = sender.ask('count({job="prometheus"})')
    assert series > 300
    until(
        lambda: abs(asked(warroom.url, 'count({region="berlin"})') - series) < series / 10,
        "as many series as Prometheus has",
    )
    metadata = httpx.get(f"{warroom.url}/api/v1/metadata", timeout=20).json()["data"]
    assert metadata["prometheus_build_info"][0]["type"] == "gauge"
    sources = httpx.get(f"{warroom.url}/api/warroom/v1/sources", timeout=20).json()
    assert "'dropped': {}" in str(
        [one for one in sources["sources"] if one["name"] == "remote_write"]
    )

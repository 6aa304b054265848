"""What every registered poller must do, whatever it asks."""

from __future__ import annotations

import re

import pytest
import structlog

from collector.poll_registry import POLLERS
from collector.polling.contract import Reading
from store.errors import ConfigError, LimitExceeded
from store.model import STALE_NAN_BITS, MetricMetadata, MetricType
from tests.collector.pollers.asking import targets_of
from tests.collector.pollers.conftest import Ask
from tests.collector.pollers.servers import SilentServer
from tests.docs.pages import ROOT
from tests.e2e.service import free_port

SECRET = "s3cr3t-of-the-poller"
SECRETS = {"SECRET": SECRET}
# Type -> the fields of an entry; {at} is host:port.
ENTRIES = {
    "aws": "region: eu-central-1, access_key_id_env: SECRET, secret_access_key_env: SECRET, "
    "autoscaling_url: 'http://{at}', cloudwatch_url: 'http://{at}'",
    "celery": "address: '{at}', user: warroom, password_env: SECRET, queues: [celery, mail]",
    "cloudflare": "url: 'http://{at}', token_env: SECRET, zones: {{shop: %s}}" % ("0a" * 16),
    "datadog": "url: 'http://{at}', api_key_env: SECRET, app_key_env: SECRET, queries: {{a: b}}",
    "elasticsearch": "url: 'http://{at}', api_key_env: SECRET",
    "host": "proc: /no/such/proc",
    "mysql": "address: '{at}', user: warroom, password_env: SECRET",
    "newrelic": "url: 'http://{at}', account: 1, api_key_env: SECRET, queries: {{a: b}}",
    "pgbouncer": "address: '{at}', user: warroom, password_env: SECRET",
    "postgresql": "address: '{at}', user: warroom, password_env: SECRET",
    "prometheus": "url: 'http://{at}', queries: {{jobs: up}}, token_env: SECRET",
    "proxysql": "address: '{at}', user: stats, password_env: SECRET",
    "redis": "address: '{at}', user: warroom, password_env: SECRET",
}


def entry(kind: str, at: str, more: str = "") -> str:
    return f"pollers: [{{type: {kind}, name: it, {ENTRIES[kind].format(at=at)}{more}}}]"


def test_every_poller_of_the_table_is_under_contract() -> None:
    assert set(ENTRIES) == set(POLLERS)


@pytest.mark.parametrize("kind", sorted(POLLERS))
def test_a_silent_system_is_down_within_its_timeout_and_then_left_alone(
    kind: str, ask: Ask, silent: SilentServer
) -> None:
    asking = ask(entry(kind, silent.address, ", timeout: 300ms"), SECRETS)
    with structlog.testing.capture_logs() as logs:
        down = asking.poll()
        asking.poll(round(asking.target.interval_s * 200))
        again = asking.poll(round(asking.target.interval_s * 100))
    assert (down.value("up"), again.value("up")) == (0, 0)
    if POLLERS[kind].up_metric:
        assert down.value(POLLERS[kind].up_metric) == 0
    status = asking.status
    assert status.state == "error"
    assert status.error
    assert status.remedy
    assert status.last_success_at_ms is None
    # One line for the whole outage.
    assert len([line for line in logs if line["event"] == "poller failed"]) == 1
    assert SECRET not in f"{status}{logs}{asking.target!r}{asking.poller!r}"
    assert SECRET not in repr(vars(asking.poller))


@pytest.mark.parametrize("kind", sorted(POLLERS))
def test_a_system_that_refuses_is_down_with_a_reason_and_a_remedy(kind: str, ask: Ask) -> None:
    asking = ask(entry(kind, f"127.0.0.1:{free_port()}"), SECRETS)
    assert asking.poll().value("up") == 0
    assert asking.status.state == "error"
    assert asking.status.remedy
    assert SECRET not in f"{asking.status}"


@pytest.mark.parametrize("kind", sorted(POLLERS))
def test_a_field_that_there_is_not_is_refused_with_its_line_and_what_is_known(kind: str) -> None:
    text = entry(kind, "127.0.0.1:1").replace("pollers: [", "pollers:\n  - ", 1)[:-1]
    text = text.replace("name: it", "nmae: it")
    with pytest.raises(ConfigError, match="nmae") as caught:
        targets_of(text, SECRETS)
    assert caught.value.line == 2
    assert "name" in caught.value.hint


@pytest.mark.parametrize("kind", sorted(POLLERS))
def test_a_secret_in_the_file_itself_is_refused_without_showing_it(kind: str) -> None:
    fields = ENTRIES[kind].format(at="127.0.0.1:1")
    for name in re.findall(r"(\w+)_env", fields):
        text = entry(kind, "127.0.0.1:1").replace(f"{name}_env: SECRET", f"{name}: {SECRET}")
        with pytest.raises(ConfigError, match=f"{name}_env") as caught:
            targets_of(text, SECRETS)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(POLLERS))
def test_every_poller_has_a_page_with_its_fields_and_its_series(kind: str) -> None:
    page = (ROOT / "docs" / "sources" / f"{kind}.md").read_text(encoding="utf-8")
    assert f"type: {kind}" in page
    for name in re.findall(r"(?:^| )([a-z_]+): ", ENTRIES[kind]):
        assert f"`{name.removesuffix('_env')}" in page or f"{name}:" in page, name
    if POLLERS[kind].up_metric:
        assert POLLERS[kind].up_metric in page


def test_a_reading_is_bounded() -> None:
    reading = Reading(max_samples=2)
    reading.gauge("a", 1)
    reading.gauge("a", 2)
    with pytest.raises(LimitExceeded, match="2 samples"):
        reading.counter("b", 3)
    assert reading.families["a"] == MetricMetadata("a", MetricType.GAUGE)


def test_series_that_a_system_no_longer_has_end_with_a_staleness_marker(ask: Ask) -> None:
    asking = ask("pollers: [{type: host, name: it}]")
    before = asking.poll()
    assert before.value("up") == 1
    asking.runner._states[asking.target.key].poller._settings = HostAway()  # type: ignore[attr-defined]
    after = asking.poll()
    assert after.value("up") == 0
    assert after.value("node_load1").view("uint64") == STALE_NAN_BITS  # type: ignore[attr-defined]
    assert asking.status.last_success_at_ms == asking.clock.now_ms - 5_000


class HostAway:
    """Settings of a host whose /proc is gone."""

    proc = ROOT / "no-such-directory"
    root = ROOT

"""`remote_write` as Prometheus writes it: what is taken, what is refused, and on which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.forward.config import RemoteWrite, parse_remote_write
from store.documents import parse_document
from store.errors import ConfigError

SECRET = "s3cr3t-of-the-endpoint"
HEAD = "remote_write:\n  - url: https://metrics.example/api/v1/write\n"


def parse(
    text: str, *, environment: dict[str, str] | None = None, file: str = "warroom.yaml"
) -> tuple[RemoteWrite, ...]:
    return parse_remote_write(parse_document(text, file), ("remote_write",), environment)


def test_prometheus_own_example_is_read() -> None:
    (endpoint,) = parse(
        """
remote_write:
  - url: https://metrics.example/api/v1/write
    name: central
    remote_timeout: 10s
    headers: {X-Scope-OrgID: shop}
    basic_auth: {username: shop, password: s3cr3t-of-the-endpoint}
    tls_config: {insecure_skip_verify: true, server_name: metrics.internal}
    send_exemplars: true
    send_native_histograms: false
    follow_redirects: false
    protobuf_message: prometheus.WriteRequest
    write_relabel_configs:
      - {source_labels: [__name__], regex: go_.*, action: drop}
    queue_config:
      capacity: 5000
      min_shards: 1
      max_shards: 2
      max_samples_per_send: 1000
      batch_send_deadline: 1s
      min_backoff: 100ms
      max_backoff: 10s
      retry_on_http_429: true
      sample_age_limit: 2h
      max_disk_bytes: 64MB
    metadata_config: {send: true, send_interval: 30s, max_samples_per_send: 500}
"""
    )
    assert (endpoint.name, endpoint.timeout_s, endpoint.send_exemplars) == ("central", 10.0, True)
    assert (endpoint.queue.shards, endpoint.queue.capacity) == (2, 5000)
    assert (endpoint.queue.sample_age_limit_s, endpoint.queue.max_disk_bytes) == (7200, 64 << 20)
    assert endpoint.metadata.interval_s == 30
    assert len(endpoint.relabel) == 1
    headers = endpoint.http.request_headers()
    assert headers["X-Scope-OrgID"] == "shop"
    assert headers["Authorization"].startswith("Basic ")
    assert endpoint.http.extensions() == {"sni_hostname": "metrics.internal"}
    assert SECRET not in repr(endpoint)


def test_without_a_name_it_has_a_stable_one_and_without_a_section_there_is_none() -> None:
    (one,), (other,) = parse(HEAD), parse(HEAD)
    assert one.name == other.name != ""
    assert parse("evaluation_interval: 5s") == ()


def test_a_secret_from_a_file_is_read_anew_and_one_of_the_environment_once(
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    text = HEAD + "    authorization: {credentials_file: token}\n"
    (endpoint,) = parse(text, environment={}, file=str(tmp_path / "warroom.yaml"))
    assert endpoint.http.request_headers() == {"Authorization": f"Bearer {SECRET}"}
    (tmp_path / "token").write_text("next")
    assert endpoint.http.request_headers() == {"Authorization": "Bearer next"}
    text = HEAD + "    basic_auth: {username: a, password_env: PASSWORD}\n"
    (endpoint,) = parse(text, environment={"PASSWORD": "b"})
    assert endpoint.http.request_headers() == {"Authorization": "Basic YTpi"}
    assert SECRET not in repr(endpoint)


@pytest.mark.parametrize(
    ("extra", "line", "says"),
    [
        ("    remote_timeuot: 1s\n", 3, "known here: "),
        ("    name: 'a/../b'\n", 3, "letters, digits"),
        ("    follow_redirects: true\n", 3, "never followed"),
        ("    send_native_histograms: true\n", 3, "native histograms"),
        ("    protobuf_message: io.prometheus.write.v2.Request\n", 3, "1.0"),
        ("    proxy_url: http://proxy\n", 3, "proxies are not used"),
        ("    oauth2: {client_id: a}\n", 3, "use authorization"),
        ("    headers: {Authorization: a}\n", 3, "see authorization"),
        ("    headers: {X-A: 'ü'}\n", 3, "ASCII"),
        ('    headers: {X-A: "a\\r\\nb"}\n', 3, "line break"),
        ("    queue_config: {max_samples_per_send: 0}\n", 3, "1 or more"),
        ("    queue_config: {max_samples_per_send: 1000000}\n", 3, "at most"),
        ("    queue_config:\n      min_backoff: 1m\n", 4, "longer than max_backoff"),
        ("    queue_config: {max_disk_bytes: 1KB}\n", 3, "1MB or more"),
        ("    queue_config: {max_shard: 4}\n", 3, "max_shards"),
        ("    basic_auth: {username: a}\n    authorization: {credentials: b}\n", 4, "either"),
        ("    authorization: {type: Bearer}\n", 3, "needs credentials"),
        ("    authorization: {type: basic, credentials: a}\n", 3, "use basic_auth"),
        ("    authorization: {credentials_env: NOWHERE}\n", 3, "no variable NOWHERE"),
        ("    authorization: {credentials_file: nowhere}\n", 3, "cannot be read"),
        ("    authorization: {credentials: a, credentials_env: B}\n", 3, "not both"),
        ("    tls_config: {cert_file: a.pem}\n", 3, "belong together"),
        ("    tls_config: {ca_file: nowhere.pem}\n", 3, "cannot be loaded"),
        ("    tls_config: {min_version: SSL3}\n", 3, "TLS12"),
        ("    write_relabel_configs:\n      - {action: fly}\n", 4, "use one of"),
        ("  - url: https://metrics.example/api/v1/write\n", 3, "two endpoints"),
        ("  - url: ftp://metrics.example\n", 3, "http:// or https://"),
        ("  - url: https://user:pw@metrics.example\n", 3, "use basic_auth"),
        ("  - name: b\n", 3, "http:// or https://"),
    ],
)
def test_a_mistake_names_its_line_and_the_way_out(extra: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(HEAD + extra, environment={})
    assert caught.value.line == line
    assert says in str(caught.value)
    assert "user:pw" not in str(caught.value)


def test_a_check_on_another_machine_needs_no_secrets() -> None:
    text = HEAD + "    authorization: {credentials_file: nowhere}\n"
    assert len(parse(text, environment=None)) == 1

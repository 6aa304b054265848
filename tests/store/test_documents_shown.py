"""What a configuration shows to whoever may read it."""

from store.documents import parse_document, without_secrets

SECTION = """
tokens: [s3cret-1, [s3cret-2], {name: shown-1, token: s3cret-3}]
password: 12345678
urls: [https://hooks.example/s3cret-4]
url: s3cret-5
headers: {X-Any: s3cret-6}
scrape_configs:
  - job_name: shown-2
    params: {module: [s3cret-7, s3cret-8], one: s3cret-9}
    metrics_path: /shown-4?token=s3cret-11
    static_configs: [{targets: [shown-5], labels: {__param_key: s3cret-12}}]
    relabel_configs:
      - {target_label: __param_token, replacement: s3cret-13}
      - {target_label: __metrics_path__, replacement: '/shown-6?k=s3cret-14'}
    proxy_connect_header: {X-Own: [s3cret-15]}
    oauth2: {client_id: shown-7, client_secret: s3cret-16, endpoint_params: {audience: s3cret-17}}
    http_headers: {X-shown-8: {values: [s3cret-18], secrets: [s3cret-19], files: [/run/s3cret-20]}}
    authorization: {type: shown-3, credentials: s3cret-10}
    send_token: true
    api_key:
"""


def test_lists_numbers_and_parameters_under_secret_names_are_masked() -> None:
    shown = without_secrets(parse_document(SECTION, "warroom.yaml").data)
    assert "s3cret" not in str(shown)
    assert "12345678" not in str(shown)
    assert all(f"shown-{number}" in str(shown) for number in range(1, 9))
    (job,) = shown["scrape_configs"]
    assert job["params"] == {"module": ["<secret>", "<secret>"], "one": "<secret>"}
    assert job["send_token"] is True
    assert job["api_key"] is None
    assert shown["urls"] == ["<secret>"]

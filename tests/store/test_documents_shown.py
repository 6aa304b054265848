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
    relabel_configs: [{target_label: __param_token, replacement: s3cret-13}]
    authorization: {type: shown-3, credentials: s3cret-10}
    send_token: true
    api_key:
"""


def test_lists_numbers_and_parameters_under_secret_names_are_masked() -> None:
    shown = without_secrets(parse_document(SECTION, "warroom.yaml").data)
    assert "s3cret" not in str(shown)
    assert "12345678" not in str(shown)
    assert all(f"shown-{number}" in str(shown) for number in range(1, 6))
    (job,) = shown["scrape_configs"]
    assert job["params"] == {"module": ["<secret>", "<secret>"], "one": "<secret>"}
    assert job["send_token"] is True
    assert job["api_key"] is None
    assert shown["urls"] == ["<secret>"]

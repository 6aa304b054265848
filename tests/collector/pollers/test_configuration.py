"""The `pollers:` section: what is refused, where, and with what remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector import poll_config
from collector.poll_runner import PollRunner, back_off_s
from store.errors import ConfigError
from tests.collector.pollers.asking import targets_of
from warroom.check import check
from warroom.config import Options, load
from warroom.poll import poll_targets

GOOD = "type: redis, name: cache, address: '127.0.0.1:6379'"
OTHER = "type: redis, name: other, address: '127.0.0.1:6380'"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("name: x", "type: this poller needs it"),
        ("type: oracle", "known: .*mysql"),
        ("type: redis", "address: this poller needs it"),
        ("type: redis, address: 'redis://cache:6379'", "this is no address"),
        ("type: redis, address: 'user:pass@cache:6379'", "this is no address"),
        ("type: redis, address: 'cache:99999'", "this is no address"),
        (f"{GOOD}, interval: 100ms", "the shortest is 1s"),
        (f"{GOOD}, interval: soon", "interval"),
        (f"{GOOD}, interval: 0", "more than 0s"),
        (f"{GOOD}, interval: 5s, timeout: 10s", "longer than the interval"),
        (f"{GOOD}, labels: {{'0a': x}}", "no label name"),
        (f"{GOOD}, labels: {{__name__: x}}", "no label name"),
        (f"{GOOD}, labels: [a]", "a mapping"),
        (f"{GOOD}, password: hush", "password_env"),
        (f"{GOOD}, password_env: A, password_file: b", "not both"),
        (f"{GOOD}, password_env: NOT_SET", "the variable NOT_SET is not set"),
        (f"{GOOD}, tls: perhaps", "true or false"),
        ("type: mysql, address: a, user: u, heartbeat_table: 'a b'", "write database.table"),
        ("type: mysql, address: a, user: u, digests: 5000", "more than 500"),
        ("type: host, proc: proc", "an absolute path"),
    ],
)
def test_a_mistake_is_told_with_its_line(fields: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        targets_of(f"evaluation_interval: 5s\npollers:\n  - {{{fields}}}\n")
    assert (caught.value.file, caught.value.line) == ("warroom.yaml", 3)


@pytest.mark.parametrize("text", ["pollers: {type: host}", "pollers: [host]", "pollers: [[]]"])
def test_what_is_no_list_of_mappings_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        targets_of(text)


def test_two_pollers_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="stands twice") as caught:
        targets_of(f"pollers:\n  - {{{GOOD}}}\n  - {{{GOOD}}}\n")
    assert caught.value.line == 3


def test_a_driver_that_is_not_installed_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(poll_config, "installed", lambda module: module != "redis")
    with pytest.raises(ConfigError, match=r"pip install 'warroom\[redis\]'"):
        targets_of(f"pollers: [{{{GOOD}}}]")


def test_labels_job_and_instance_are_those_of_the_entry() -> None:
    (target,) = targets_of(f"pollers: [{{{GOOD}, job: sessions, labels: {{zone: a}}}}]")
    assert target.labels == {"job": "sessions", "instance": "cache", "zone": "a"}
    assert (target.interval_s, target.timeout_s, target.source) == (5, 5, "poll:redis/cache")
    assert 0 <= target.offset_s < 5
    (other,) = targets_of("pollers: [{type: redis, address: '10.0.0.1:7000'}]")
    assert other.labels["instance"] == "10.0.0.1:7000"


def test_failures_back_off_up_to_a_minute_and_longer_when_asked_to() -> None:
    (target,) = targets_of(f"pollers: [{{{GOOD}}}]")
    waits = [back_off_s(target, count, None) for count in range(1, 40)]
    # A restart is over within a minute: `up` must not stay 0 for longer than it was down.
    assert 4 <= min(waits[:12]) <= max(waits[:12]) <= 5
    assert sum(waits[:12]) >= 48
    assert waits[12] > 5
    assert 48 <= min(waits[18:]) <= max(waits) <= 60
    assert back_off_s(target, 1, 300.0) == 300.0


def written(directory: Path, text: str) -> Options:
    path = directory / "warroom.yaml"
    path.write_text(text, encoding="utf-8")
    return Options(config=str(path))


def test_a_secret_comes_from_a_file_beside_the_configuration_or_from_the_environment(
    tmp_path: Path,
) -> None:
    (tmp_path / "redis.secret").write_text("from-the-file\n")
    both = f"[{{{GOOD}, password_file: redis.secret}}, {{{OTHER}, password_env: PASS}}]"
    settings = load(written(tmp_path, f"pollers: {both}"), {"PASS": "from-the-environment"})
    runner = PollRunner(poll_targets(settings), None, None)  # type: ignore[arg-type]  # nothing is polled
    found = [secret.value for target in runner.targets() for secret in target.secrets]
    assert found == ["from-the-file", "from-the-environment"]
    assert "from-the-" not in repr(runner.targets())


def test_check_tells_of_each_poller_and_needs_no_secret(tmp_path: Path) -> None:
    told: list[str] = []
    text = f"pollers: [{{{GOOD}, password_env: NOT_ON_THIS_MACHINE}}]"
    assert check(written(tmp_path, text), told.append) == 0
    assert "ok    poller redis/cache, every 5 s" in told
    assert check(written(tmp_path, "pollers: [{type: oracle}]"), told.append) == 1

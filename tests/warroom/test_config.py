from pathlib import Path

import pytest

from store.errors import ConfigError
from warroom.config import Options, load, parse_address


def write(directory: Path, text: str) -> Options:
    path = directory / "warroom.yaml"
    path.write_text(text, encoding="utf-8")
    return Options(config=str(path))


def test_without_a_file_there_are_sane_defaults() -> None:
    settings = load(Options(), {})
    assert str(settings.listen) == "127.0.0.1:8600"
    assert str(settings.otlp_http) == "127.0.0.1:4318"
    assert str(settings.otlp_grpc) == "127.0.0.1:4317"
    assert settings.file.evaluation_interval == 5.0
    assert settings.data_dir == Path("data")


def test_a_mistake_is_reported_with_its_line_and_what_is_known(tmp_path: Path) -> None:
    options = write(tmp_path, "evaluation_interval: 5s\nrule_flies: []\n")
    with pytest.raises(ConfigError) as caught:
        load(options, {})
    assert caught.value.line == 2
    assert "rule_flies" in str(caught.value)
    assert "rule_files" in str(caught.value)


def test_a_mistake_deep_in_the_file_has_its_own_line(tmp_path: Path) -> None:
    text = "store:\n  url: duckdb\n  retention:\n    raw: 15 days\n"
    with pytest.raises(ConfigError, match="write it like") as caught:
        load(write(tmp_path, text), {})
    assert caught.value.line == 4


def test_a_key_that_stands_twice_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stands twice") as caught:
        load(write(tmp_path, "rule_files: []\nrule_files: []\n"), {})
    assert caught.value.line == 2


def test_the_command_line_beats_the_environment_and_it_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text("evaluation_interval: 30s\nstore: {retention: {raw: 2d}}\n")
    env = {
        "WARROOM_CONFIG": str(path),
        "WARROOM_EVALUATION_INTERVAL": "10s",
        "WARROOM_STORE_RETENTION_RAW": "3d",
        "WARROOM_LISTEN": "127.0.0.1:1",
    }
    settings = load(Options(listen="127.0.0.1:2"), env)
    assert settings.file.evaluation_interval == 10.0
    assert settings.file.store.retention.raw == 3 * 86_400
    assert settings.listen.port == 2


def test_files_are_found_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "b.yml").write_text("groups: []")
    (tmp_path / "rules" / "a.yml").write_text("groups: []")
    settings = load(write(tmp_path, "rule_files: [rules/*.yml]\n"), {})
    assert [Path(file.name).name for file in settings.rule_files] == ["a.yml", "b.yml"]


def test_a_named_file_that_is_missing_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yml") as caught:
        load(write(tmp_path, "rule_files:\n  - missing.yml\n"), {})
    assert caught.value.line == 2


@pytest.mark.parametrize("text", ["8600", "host", "host:x", "host:70000", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        parse_address(text)


def test_port_zero_and_off_are_understood() -> None:
    settings = load(Options(listen="127.0.0.1:0", otlp_http="off", otlp_grpc="off"), {})
    assert settings.listen.port == 0
    assert settings.otlp_http is None
    assert settings.otlp_grpc is None


def test_the_environment_is_not_shown(tmp_path: Path) -> None:
    settings = load(write(tmp_path, ""), {"WARROOM_MYSQL_PASSWORD": "hunter2"})
    assert "hunter2" not in repr(settings)

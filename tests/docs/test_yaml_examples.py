"""Each YAML block is read by the parser that would read it in earnest."""

from pathlib import Path

import pytest
import yaml

from alerts.registry import NOTIFIERS
from alerts.routing import parse_alertmanager
from alerts.rule_tests.run import run_rule_tests
from alerts.rule_tests.spec import parse_rule_tests
from alerts.rules import parse_rule_file
from api.boards import parse_board
from slos.spec import parse_slos
from store.errors import ConfigError
from tests.docs.pages import Block, blocks
from warroom.backtest_marks import read_marks
from warroom.check import check
from warroom.config import Options

EXAMPLES = blocks("yaml", "yml")
SECRET = "https://hooks.example/0123456789abcdef"
INTEGRATIONS = {f"{kind}_configs" for kind in NOTIFIERS}


def read_as(text: str, directory: Path) -> str:
    """Parse a block as what it is, and say what that was. Raises ConfigError on a mistake."""
    first = next(yaml.safe_load_all(text))
    keys = set(first)
    if keys & {"apiVersion", "version"}:
        # A composite or a policy names SLOs of the page's other examples.
        whole = "".join(f"---\n{block.text}" for block in EXAMPLES if is_slo(block))
        return "slo" if parse_slos(whole if text in whole else text, "example.yml") else ""
    if "tests" in keys:
        tests = parse_rule_tests(text, "example.yml")
        rules = [block.text for block in EXAMPLES if "groups" in yaml.safe_load(block.text)]
        named = [parse_rule_file(rule, "rules.yml") for rule in rules]
        assert run_rule_tests(tests, named) == []
        return "rule tests"
    if "groups" in keys:
        assert parse_rule_file(text, "example.yml").groups
        return "rules"
    if keys <= INTEGRATIONS:
        receiver = {"name": "example", **first}
        text = yaml.safe_dump({"route": {"receiver": "example"}, "receivers": [receiver]})
        keys = {"route"}
    if "route" in keys:
        parse_alertmanager(text, "example.yml", read_secret=lambda _source, _name: SECRET)
        return "alertmanager"
    if "rows" in keys:
        assert parse_board(text, "example.yml").panels
        return "board"
    return _marks(text, directory) if "incidents" in keys else _configuration(text, directory)


def is_slo(block: Block) -> bool:
    return bool({"apiVersion", "version"} & set(next(yaml.safe_load_all(block.text))))


def _marks(text: str, directory: Path) -> str:
    path = directory / "marks.yaml"
    path.write_text(text, encoding="utf-8")
    return "marks" if read_marks(path) else ""


def _configuration(text: str, directory: Path) -> str:
    path = directory / "warroom.yaml"
    path.write_text(text, encoding="utf-8")
    told: list[str] = []
    if check(Options(config=str(path)), told.append):
        raise ConfigError("; ".join(line for line in told if line.startswith("FAIL")))
    return "warroom.yaml"


@pytest.mark.parametrize("block", EXAMPLES, ids=str)
def test_a_yaml_example_is_taken_by_its_parser(block: Block, tmp_path: Path) -> None:
    assert read_as(block.text, tmp_path)


def test_there_is_an_example_of_each_kind_of_file(tmp_path: Path) -> None:
    kinds = {read_as(block.text, tmp_path) for block in EXAMPLES}
    assert kinds == {
        "warroom.yaml",
        "slo",
        "rules",
        "rule tests",
        "alertmanager",
        "board",
        "marks",
    }


@pytest.mark.parametrize(
    "text",
    [
        "evaluation_intervall: 5s",
        "business: {currencies: EUR}",
        "detectors: {n_plus_two: off}",
        "scrape_configs: [{job: shop}]",
        "groups: [{name: a, rules: [{alert: A, expr: 'up ='}]}]",
        "pagerduty_configs: [{url: 'https://x.example'}]",
        "version: prometheus/v1\nservice: shop\nslos: [{name: a, objective: 99.9}]",
        "{name: a, title: a, rows: [{panels: [{id: a, kind: pie, title: a}]}]}",
    ],
)
def test_a_wrong_example_would_be_noticed(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_as(text, tmp_path)

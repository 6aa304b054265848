"""Python in the documentation compiles; what is marked as an example runs, with what it expects."""

import ast
import importlib
from types import SimpleNamespace

import pytest

from collector.instrument.events import EventTracker
from tests.docs.pages import Block, blocks

PYTHON = blocks("python")
MARKED = [block for block in PYTHON if block.given is not None]
GIVEN = {
    "telemetry": SimpleNamespace(events=EventTracker("shop", None)),
    "session_id": "s-1",
    "checkout_id": "c-1",
}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_and_imports_what_exists(block: Block) -> None:
    tree = ast.parse(block.text, str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


@pytest.mark.parametrize("block", MARKED, ids=str)
def test_a_marked_example_runs(block: Block) -> None:
    names = {name: GIVEN[name] for name in block.given or ()}
    exec(compile(block.text, str(block), "exec"), names)


def test_something_is_marked() -> None:
    assert MARKED

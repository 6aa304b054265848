"""Mistakes that the models of `warroom.yaml` find, said for people: where, what, and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_UNKNOWN = "extra_forbidden"
# What pydantic expects, in YAML's words, and how it is written.
_EXPECTED: Mapping[str, tuple[str, str]] = {
    "bool_parsing": ("true or false is expected", "write it without quotes"),
    "bool_type": ("true or false is expected", "write it without quotes"),
    "string_type": ("a text is expected", "write it in quotes"),
    "tuple_type": ("a list is expected", "write [a, b], or each entry on a line with '- '"),
    "list_type": ("a list is expected", "write [a, b], or each entry on a line with '- '"),
    "dict_type": ("a mapping is expected", "write name: value pairs"),
    "model_type": ("a mapping is expected", "write name: value pairs"),
}


def said(error: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    """The problem and the remedy of one error of a model."""
    path = [str(part) for part in error["loc"]]
    where = ".".join(path)
    if error["type"] == _UNKNOWN:
        return f"{where}: there is no such setting", _known(path, model)
    expected = _EXPECTED.get(error["type"])
    if expected is not None:
        return f"{where}: {expected[0]}, not {error['input']!r}"[:300], expected[1]
    return f"{where}: {error['msg'].removeprefix('Value error, ')}", ""


def _known(path: list[str], model: type[BaseModel]) -> str:
    """What may stand in the place of an unknown name."""
    here: type[BaseModel] = model
    for part in path[:-1]:
        field = here.model_fields.get(part)
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ""
        here = inner
    near = get_close_matches(path[-1], here.model_fields, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known here: {', '.join(sorted(here.model_fields))}"

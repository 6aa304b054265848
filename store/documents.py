"""YAML text to data that remembers its lines, so that a mistake can be reported where it is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import Composer

from store.errors import ConfigError

Path = tuple[Hashable, ...]

# PyYAML was built with libyaml, as its wheels are.
QUICK = yaml.__with_libyaml__
# Aliases let a few lines stand for any number of values.
MAX_VALUES = 2_000_000
# Where libyaml and PyYAML's own parser read a text differently, or number its lines differently:
# tabs, odd line ends, tags, explicit keys, directives, comments at block scalars, document marks.
_PECULIAR = re.compile(
    r"[\t\r\x85\u2028\u2029\ufeff]|(?<![^\s\[{,])[!?%](?![=~][\s\"])|[|>][0-9+-]*#|[\[{][^\n]*\?"
    r"|^---[^\n]|^\.\.\.",
    re.MULTILINE,
)

# An address may hold a token, too.
_SECRET_NAME = re.compile(
    r"(key|secret|token|password|url|authorization|credentials)s?$", re.IGNORECASE
)
# Labels of a scrape's target that become the parameters of its request.
_PARAMETER = "__param_"
# Headers and parameters of one's own are how many services take a token.
_OF_ONES_OWN = ("headers", "proxy_connect_header", "params", "endpoint_params")


@dataclass(frozen=True, slots=True)
class Document:
    """Parsed YAML. `line_of(("groups", 0, "rules", 2, "expr"))` is the line it was written on."""

    file: str
    data: Any
    lines: dict[Path, int]

    def line_of(self, path: Path) -> int | None:
        """The line of a path, or of the nearest of its parents that is in the file."""
        for length in range(len(path), -1, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return line
        return None

    def error(self, path: Path, message: str, *, hint: str = "") -> ConfigError:
        return ConfigError(message, file=self.file, line=self.line_of(path), hint=hint)


def parse_documents(text: str, file: str) -> list[Document]:
    """Every YAML document in a text.

    Raises:
        ConfigError: It is no YAML, a key stands twice, or a value is not plain data.
    """
    try:
        if QUICK and not _PECULIAR.search(text):
            # Mistakes are told in the words of PyYAML's own parser, whichever found them.
            with contextlib.suppress(yaml.YAMLError, ValueError):
                return _read(_QuickLoader, text, file)
        return _read(yaml.SafeLoader, text, file)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else None
        raise ConfigError(f"not valid YAML: {exc.problem}", file=file, line=line) from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        # Dates that do not exist, nesting without end.
        first = str(exc).split("\n", 1)[0]
        raise ConfigError(f"not valid YAML: {first}", file=file) from exc


if QUICK:

    class _QuickLoader(Composer, yaml.CSafeLoader):
        """Scans and parses in C, several times as fast.

        Nodes are composed in Python: libyaml's own composer overflows the stack on deep nesting.
        """

        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            Composer.__init__(self)


def _read(loader_class: Callable[[str], Any], text: str, file: str) -> list[Document]:
    documents = []
    # Reading begins here already: a character that YAML forbids is found by the constructor.
    loader = loader_class(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            lines: dict[Path, int] = {}
            if node is None:
                break
            _walk(node, (), lines, file)
            documents.append(Document(file, loader.construct_document(node), lines))
    finally:
        loader.dispose()
    return documents


def parse_document(text: str, file: str) -> Document:
    """The one YAML document of a text; an empty text is an empty mapping.

    Raises:
        ConfigError: As `parse_documents`, or there are several documents.
    """
    documents = parse_documents(text, file)
    if len(documents) > 1:
        raise ConfigError("one YAML document is expected here, several were found", file=file)
    return documents[0] if documents else Document(file, {}, {(): 1})


def _walk(node: yaml.Node, path: Path, lines: dict[Path, int], file: str) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if len(lines) > MAX_VALUES:
        problem = f"the document comes to more than {MAX_VALUES:,} values"
        raise ConfigError(problem, file=file, hint="write fewer aliases of long lists")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(getattr(key, "value", ""))
            if name in seen and name != "<<":
                raise ConfigError(
                    f"the key {name!r} stands twice", file=file, line=key.start_mark.line + 1
                )
            seen.add(name)
            lines[(*path, name)] = key.start_mark.line + 1
            _walk(value, (*path, name), lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines, file)


def without_secrets(data: Any) -> Any:
    """The same data, fit to be shown: values under names such as `password` or `url` are masked."""
    if isinstance(data, dict):
        shown = {key: _shown(key, value) for key, value in data.items()}
        # A relabelling rule that sets a parameter of the request.
        if str(data.get("target_label", "")).startswith(_PARAMETER) and "replacement" in shown:
            shown["replacement"] = "<secret>"
        return shown
    if isinstance(data, list):
        return [without_secrets(item) for item in data]
    return data


def _shown(key: Hashable, value: Any) -> Any:
    if key in _OF_ONES_OWN and isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    if key == "http_headers" and isinstance(value, dict):
        return {name: _shown("headers", item) for name, item in value.items()}
    # A relabelling rule's replacement may be a path, too.
    if key in ("metrics_path", "__metrics_path__", "replacement") and "?" in str(value):
        return f"{str(value).partition('?')[0]}?<secret>"
    if str(key).startswith(_PARAMETER):
        return _masked(value)
    if _SECRET_NAME.search(str(key)) and not isinstance(value, dict):
        return _masked(value)
    return without_secrets(value)


def _masked(value: Any) -> Any:
    """Every value of a list is hidden; what is a mapping is shown by its own names."""
    if isinstance(value, list):
        return [_masked(item) for item in value]
    if isinstance(value, dict):
        return without_secrets(value)
    return value if value is None or isinstance(value, bool) else "<secret>"

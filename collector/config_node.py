"""One mapping of a configuration file, read field by field; mistakes name file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any, TypeVar

from collector.quantities import duration_s, size_bytes
from store.documents import Document, Path

T = TypeVar("T")


class Node:
    """A mapping of the document; remembers which keys were asked for."""

    def __init__(self, document: Document, path: Path, data: Any) -> None:
        if not isinstance(data, dict):
            raise document.error(path, "a mapping is expected here")
        self.document, self.path, self.data = document, path, data
        self._known: set[str] = set()

    def get(self, key: str, convert: Callable[[Any], T], default: T) -> T:
        """A field's value, or the default where it is absent or null.

        Raises:
            ConfigError: `convert` raised TypeError or ValueError.
        """
        self._known.add(key)
        value = self.data.get(key)
        if value is None:
            return default
        try:
            return convert(value)
        except (TypeError, ValueError) as error:
            raise self.document.error((*self.path, key), f"{key}: {error}") from error

    def has(self, key: str) -> bool:
        return self.data.get(key) is not None

    def child(self, key: str) -> Node | None:
        """A field that is a mapping itself."""
        self._known.add(key)
        value = self.data.get(key)
        return None if value is None else Node(self.document, (*self.path, key), value)

    def children(self, key: str) -> list[Node]:
        """A field that is a list of mappings."""
        self._known.add(key)
        values = self.data.get(key) or []
        if not isinstance(values, list):
            raise self.document.error((*self.path, key), f"{key} must be a list")
        return [
            Node(self.document, (*self.path, key, place), value)
            for place, value in enumerate(values)
        ]

    def refuse(self, key: str, why: str, *, hint: str) -> None:
        """Refuse a field that others know, with the way out.

        Raises:
            ConfigError: It is there.
        """
        if key in self.data:
            raise self.document.error((*self.path, key), f"{key}: {why}", hint=hint)

    def done(self) -> None:
        """Every field has been asked for.

        Raises:
            ConfigError: There is another one.
        """
        unknown = [key for key in self.data if key not in self._known]
        if unknown:
            raise self.document.error(
                (*self.path, unknown[0]),
                f"the field {unknown[0]!r} is not supported",
                hint=f"known here: {', '.join(sorted(self._known))}",
            )

    def file(self, key: str) -> FilePath | None:
        """The path of a file, taken from the directory of the configuration file."""
        name = self.get(key, text, "")
        return FilePath(self.document.file).parent / name if name else None


def nodes_at(document: Document, path: Path, what: str) -> list[Node]:
    """The mappings of the list at a path of a document.

    Raises:
        ConfigError: It is no list of mappings.
    """
    found = document.data
    for step in path:
        found = found.get(step) if isinstance(found, dict) else found[step]
    if not found:
        return []
    if not isinstance(found, list):
        raise document.error(path, f"a list of {what} is expected here")
    return [Node(document, (*path, place), item) for place, item in enumerate(found)]


def text(value: Any) -> str:
    """A scalar as text."""
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        raise TypeError("a text is expected")
    return str(value)


def flag(value: Any) -> bool:
    """True or false, not a text of it."""
    if not isinstance(value, bool):
        raise TypeError("true or false is expected")
    return value


def count(value: Any) -> int:
    """A whole number of 0 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("a whole number of 0 or more is expected")
    return value


def positive(value: Any) -> int:
    """A whole number of 1 or more."""
    found = count(value)
    if not found:
        raise ValueError("a whole number of 1 or more is expected")
    return found


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts."""
    if not isinstance(value, list):
        raise TypeError("a list is expected")
    return tuple(text(item) for item in value)


def text_map(value: Any) -> dict[str, str]:
    """A mapping of texts to texts."""
    if not isinstance(value, dict):
        raise TypeError("a mapping is expected")
    return {text(key): text(item) for key, item in value.items()}


def duration(value: Any) -> float:
    """Seconds, more than none."""
    found = duration_s(text(value))
    if not found:
        raise ValueError("it must be longer than 0s")
    return found


def size(value: Any) -> int:
    """Bytes of a size such as `10MB`; KB is 1024."""
    return size_bytes(text(value))

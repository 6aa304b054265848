"""Reads one mapping of a YAML document strictly: wrong types and unknown fields are errors."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from store.documents import Document, Path
from store.durations import parse_duration_ms
from store.errors import ConfigError


def text_of(value: object) -> str | None:
    """A YAML scalar as the text it was most likely written as; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return None


class Fields:
    """The fields of one mapping. Each getter notes its name; `done` refuses all others.

    Every getter raises ConfigError, with file and line, on a value of the wrong kind.
    """

    def __init__(self, document: Document, path: Path, what: str) -> None:
        self.document = document
        self.path = path
        self.what = what
        data: Any = document.data
        for step in path:
            data = data[step]
        if data is None:
            data = {}
        if not isinstance(data, Mapping):
            hint = "write name: value pairs"
            raise document.error(path, f"{what} must be a mapping", hint=hint)
        self._data: Mapping[str, Any] = data
        self._known: list[str] = []

    def error(self, name: str, message: str, *, hint: str = "") -> ConfigError:
        return self.document.error((*self.path, name), message, hint=hint)

    def raw(self, name: str) -> Any:
        self._known.append(name)
        return self._data.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that stand there."""
        return tuple(map(str, self._data))

    def has(self, name: str) -> bool:
        return self._data.get(name) is not None

    def string(self, name: str, default: str | None = None) -> str:
        """A text; without a default the field is required."""
        value = self.raw(name)
        if value is None:
            if default is None:
                problem = f"{self.what} needs the field {name!r}"
                raise self.error(name, problem, hint=f"write {name}: …")
            return default
        text = text_of(value)
        if text is None:
            raise self.error(name, f"{name!r} must be a text", hint="write it in quotes")
        return text

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            problem = f"{name!r} must be true or false"
            raise self.error(name, problem, hint="write it without quotes")
        return value

    def integer(self, name: str, default: int = 0) -> int:
        value = self.raw(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            problem = f"{name!r} must be a whole number that is not negative"
            raise self.error(name, problem, hint="write it like 10")
        return value

    def duration_ms(self, name: str, default: int) -> int:
        value = self.raw(name)
        if value is None:
            return default
        try:
            return parse_duration_ms(text_of(value) or "")
        except ValueError as exc:
            raise self.error(
                name, f"{name!r}: {exc}", hint="write it like 30s, 5m or 1h30m"
            ) from exc

    def strings(self, name: str) -> tuple[str, ...]:
        """A list of texts; a single text counts as a list of one."""
        value = self.raw(name)
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, Sequence):
            raise self.error(name, f"{name!r} must be a list of texts")
        texts = [text_of(item) for item in items]
        if None in texts:
            raise self.error(name, f"{name!r} must be a list of texts")
        return tuple(text for text in texts if text is not None)

    def text_mapping(self, name: str) -> dict[str, str]:
        value = self.raw(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.error(name, f"{name!r} must be a mapping of texts")
        result = {}
        for key, item in value.items():
            text = text_of(item)
            if text is None:
                raise self.document.error(
                    (*self.path, name, key),
                    f"the value of {key!r} must be a text",
                    hint="write it in quotes",
                )
            result[str(key)] = text
        return result

    def children(self, name: str, what: str) -> list[Fields]:
        """The mappings of a list."""
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, Sequence) or isinstance(value, str):
            problem = f"{name!r} must be a list"
            raise self.error(name, problem, hint="begin each entry with '- '")
        return [
            Fields(self.document, (*self.path, name, index), what) for index in range(len(value))
        ]

    def child(self, name: str, what: str) -> Fields | None:
        if self.raw(name) is None:
            return None
        return Fields(self.document, (*self.path, name), what)

    def only(self, *names: str) -> None:
        """Refuse fields of other names at once, before what they were meant for is missed."""
        for name in self._data:
            if name not in names:
                raise self._unknown(str(name), names)

    def ignore(self, *names: str) -> None:
        """Accept these fields without reading them."""
        self._known.extend(names)

    def done(self) -> None:
        """Refuse what was not asked for."""
        for name in self._data:
            if name not in self._known:
                raise self._unknown(str(name), self._known)

    def _unknown(self, name: str, known: Sequence[str]) -> ConfigError:
        close = difflib.get_close_matches(name, known, n=1)
        among = f"known fields: {', '.join(sorted(known))}"
        hint = f"did you mean {close[0]!r}?" if close else among
        return self.error(name, f"{self.what} has no field {name!r}", hint=hint)

"""The fields of one entry under `pollers:`; a mistake names its line and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

from collector.config_node import Node, count, flag, text, text_map, texts
from store.documents import Document, Path
from store.durations import parse_duration_ms
from store.errors import ConfigError

SecretReader = Callable[[str, str], str]  # ("env" | "file", its name) -> the secret

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MAX_ITEMS = 200


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that never shows itself in logs, errors or answers."""

    value: str

    @override
    def __repr__(self) -> str:
        return "Secret(<hidden>)"

    @override
    def __str__(self) -> str:
        return repr(self)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: host and port, or the path of its socket."""

    host: str
    port: int
    socket: str = ""

    @override
    def __str__(self) -> str:
        return self.socket or f"{self.host}:{self.port}"


class Fields(Node):
    """One entry. What nobody asked for is refused by `done`."""

    def __init__(
        self, document: Document, path: Path, data: Any, *, read_secret: SecretReader
    ) -> None:
        super().__init__(document, path, data)
        self._read_secret = read_secret
        self.secrets: list[Secret] = []

    def error(self, key: str, message: str, *, hint: str = "") -> ConfigError:
        """A mistake at a field."""
        return self.document.error((*self.path, key), f"{key}: {message}", hint=hint)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; without a default it must be there."""
        found = self.get(key, text, default if default is not None else "")
        if default is None and not found:
            raise self.error(key, "this poller needs it")
        return found

    def flag(self, key: str, *, default: bool) -> bool:
        return self.get(key, flag, default)

    def count(self, key: str, default: int, *, most: int) -> int:
        """A whole number from 0 to `most`."""
        found = self.get(key, count, default)
        if found > most:
            raise self.error(key, f"{found} is more than {most}")
        return found

    def duration_s(self, key: str, default: float) -> float:
        return self.get(key, _duration_s, default)

    def texts(self, key: str) -> tuple[str, ...]:
        return self.get(key, _texts, ())

    def mapping(self, key: str) -> Mapping[str, str]:
        return self.get(key, _mapping, {})

    def labels(self, key: str) -> Mapping[str, str]:
        """Label names and values."""
        found = self.mapping(key)
        for name in found:
            if not _LABEL.fullmatch(name) or name.startswith("__"):
                raise self.error(key, f"{name!r} is no label name", hint="write letters, digits, _")
        return found

    def address(self, key: str, *, port: int) -> Address:
        """`host:port`, `host`, or `/path/of/a/socket`."""
        given = self.text(key)
        if given.startswith("/"):
            return Address("", port, socket=given)
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([^\s:/@\[\]]+))(?::(\d{1,5}))?", given)
        number = int(match[3]) if match and match[3] else port
        if match is None or not 0 < number < 65_536:
            raise self.error(
                key, "this is no address", hint=f"write it like 127.0.0.1:{port}, without a scheme"
            )
        return Address(match[1] or match[2], number)

    def secret(self, key: str) -> Secret | None:
        """What `<key>_env` or `<key>_file` names; the secret itself may not be in the file."""
        remedy = f"write {key}_env: NAME_OF_A_VARIABLE, or {key}_file: PATH"
        if key in self.data:
            raise self.error(key, "a secret may not be in the configuration", hint=remedy)
        env, file = self.text(f"{key}_env", ""), self.text(f"{key}_file", "")
        if env and file:
            raise self.error(f"{key}_env", f"either {key}_env or {key}_file, not both")
        if not env and not file:
            return None
        used = f"{key}_env" if env else f"{key}_file"
        try:
            secret = Secret(self._read_secret("env" if env else "file", env or file))
        except KeyError as error:
            raise self.error(used, f"the variable {env} is not set") from error
        except (OSError, UnicodeDecodeError) as error:
            raise self.error(used, f"{file} cannot be read: {error}") from error
        if not secret.value:
            raise self.error(used, f"{env or file} is empty")
        self.secrets.append(secret)
        return secret

    def needed_secret(self, key: str) -> Secret:
        """As `secret`, but it must be there."""
        found = self.secret(key)
        if found is None:
            raise self.error(key, "this poller needs it", hint=f"write {key}_env or {key}_file")
        return found


def _duration_s(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        found = float(value)
    else:
        found = parse_duration_ms(text(value)) / 1000
    if not 0 < found <= 86_400:
        raise ValueError("it must be more than 0s and at most 1d")
    return found


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise TypeError(f"a list of at most {_MAX_ITEMS} is expected")
    return texts(value)


def _mapping(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > _MAX_ITEMS:
        raise TypeError(f"a mapping of at most {_MAX_ITEMS} is expected")
    return text_map(value)

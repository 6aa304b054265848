"""Where targets come from: written down, in files, or asked of an HTTP server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collector.config_node import Node, duration, flag, text, text_map, texts
from collector.http_client import PLAIN, HttpClientConfig, checked_url, http_client_config
from store.errors import ConfigError

FILE_REFRESH_S = 300.0
HTTP_REFRESH_S = 60.0
FILE_ENDINGS = (".json", ".yml", ".yaml")


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Addresses (`host:port`) that share labels; `source` says where they were found."""

    addresses: tuple[str, ...]
    labels: Mapping[str, str]
    source: str = ""


@dataclass(frozen=True, slots=True)
class FileDiscovery:
    """Patterns of files with target groups; only the last part of a path may have a `*`."""

    patterns: tuple[Path, ...]
    refresh_s: float = FILE_REFRESH_S


@dataclass(frozen=True, slots=True)
class HttpDiscovery:
    """A URL that answers with target groups as JSON. Redirects are followed only when allowed."""

    url: str
    refresh_s: float = HTTP_REFRESH_S
    follow_redirects: bool = True
    http: HttpClientConfig = PLAIN


def static_group(node: Node) -> TargetGroup:
    """One entry of `static_configs`.

    Raises:
        ConfigError: A mistake, with its line.
    """
    found = TargetGroup(
        addresses=node.get("targets", texts, ()), labels=node.get("labels", text_map, {})
    )
    node.done()
    for address in found.addresses:
        if "/" in address:
            raise node.document.error(
                (*node.path, "targets"),
                f"the target {address!r} must be host:port only",
                hint="use scheme and metrics_path for the rest",
            )
    return found


def file_discovery(node: Node) -> FileDiscovery:
    """One entry of `file_sd_configs`; paths are taken from the configuration file's directory.

    Raises:
        ConfigError: A mistake, with its line.
    """
    names: tuple[str, ...] = node.get("files", texts, ())
    refresh_s = node.get("refresh_interval", duration, FILE_REFRESH_S)
    node.done()
    if not names:
        raise node.document.error(node.path, "file_sd_configs need files")
    base = Path(node.document.file).parent
    for name in names:
        if not name.endswith(FILE_ENDINGS) or "*" in str(Path(name).parent):
            raise node.document.error(
                (*node.path, "files"),
                f"{name!r} is no path of target files",
                hint="end it with .json, .yml or .yaml; only the last part may have a *",
            )
    return FileDiscovery(tuple(base / name for name in names), refresh_s)


def http_discovery(node: Node, environment: Mapping[str, str] | None) -> HttpDiscovery:
    """One entry of `http_sd_configs`.

    Raises:
        ConfigError: A mistake, with its line.
    """
    url = node.get("url", text, "")
    try:
        checked_url(url)
    except ConfigError as error:
        raise node.document.error((*node.path, "url"), error.problem, hint=error.hint) from error
    found = HttpDiscovery(
        url=url,
        refresh_s=node.get("refresh_interval", duration, HTTP_REFRESH_S),
        follow_redirects=node.get("follow_redirects", flag, default=True),
        http=http_client_config(node, environment),
    )
    node.done()
    return found


def groups_of(data: Any, source: str) -> tuple[TargetGroup, ...]:
    """The target groups of a file or an answer: a list of `{targets: […], labels: {…}}`.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(data, list):
        raise ValueError("a list of target groups is expected")  # noqa: TRY004  # one error
    return tuple(_group(item, f"{source}:{place}") for place, item in enumerate(data))


def _group(item: Any, source: str) -> TargetGroup:
    if not isinstance(item, dict) or not set(item) <= {"targets", "labels", "source"}:
        raise ValueError(f"{source}: a mapping of targets and labels is expected")
    targets, labels = item.get("targets") or [], item.get("labels") or {}
    if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
        raise ValueError(f"{source}: targets must be a list of texts")
    if not isinstance(labels, dict) or not all(
        isinstance(part, str) for pair in labels.items() for part in pair
    ):
        raise ValueError(f"{source}: labels must be a mapping of texts")
    for address in targets:
        if "/" in address or not address:
            raise ValueError(f"{source}: the target {address[:80]!r} must be host:port only")
    return TargetGroup(tuple(targets), dict(labels), source)

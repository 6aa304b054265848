"""SLO files: OpenSLO v1, Sloth v1 and Warroom's own kinds, as many documents as you like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from slos import alert_windows, own_kinds, sloth
from slos.definition import Slo
from slos.openslo import API_VERSION, parse_openslo
from slos.policy import Policy
from slos.window_table import WindowTables
from store.documents import Document, parse_documents
from store.errors import ConfigError

_MAX_CHARACTERS = 2_000_000
_MAX_SLOS = 1_000


@dataclass(frozen=True, slots=True)
class SloFiles:
    """What a set of SLO files says."""

    slos: tuple[Slo, ...] = ()
    policies: tuple[Policy, ...] = ()


@dataclass(slots=True)
class _Sorted:
    """The documents by what they are."""

    sloth: list[Document] = field(default_factory=list)
    openslo: list[Document] = field(default_factory=list)
    windows: list[Document] = field(default_factory=list)
    composites: list[Document] = field(default_factory=list)
    policies: list[Document] = field(default_factory=list)


def parse_slos(text: str, file: str) -> list[Slo]:
    """The SLOs of one file.

    Raises:
        ConfigError: With file, line and what to write instead.
    """
    return list(parse_slo_files({file: text}).slos)


def parse_slo_files(files: Mapping[str, str]) -> SloFiles:
    """What a set of files (name to text) says; a document may refer to one in another file.

    Raises:
        ConfigError: With file, line and what to write instead.
    """
    documents = _Sorted()
    for file, text in files.items():
        if len(text) > _MAX_CHARACTERS:
            raise ConfigError(f"longer than {_MAX_CHARACTERS} characters", file=file)
        for document in parse_documents(text, file):
            for one in _objects(document):
                _place(one, documents).append(one)
    tables = WindowTables(alert_windows.parse_alert_windows(documents.windows))
    slos = [slo for document in documents.sloth for slo in sloth.parse_sloth(document, tables)]
    slos += parse_openslo(documents.openslo, tables)
    slos += own_kinds.parse_composites(documents.composites, slos, tables)
    _refuse_twins(slos)
    return SloFiles(tuple(slos), tuple(own_kinds.parse_policies(documents.policies, slos)))


def _objects(document: Document) -> list[Document]:
    """A document, or each of the objects where it is a list of them, as OpenSLO allows."""
    if not isinstance(document.data, list):
        return [] if document.data is None else [document]
    found = []
    for place, item in enumerate(document.data):
        lines = {path[1:]: line for path, line in document.lines.items() if path[:1] == (place,)}
        found.append(Document(document.file, item, lines))
    return found


def _place(document: Document, found: _Sorted) -> list[Document]:
    """Where a document belongs, by its version and kind."""
    data = document.data if isinstance(document.data, dict) else {}
    if data.get("version") == sloth.VERSION and "apiVersion" not in data:
        return found.sloth
    kinds: Mapping[object, Mapping[str, list[Document]]] = {
        sloth.K8S_API_VERSION: {
            "PrometheusServiceLevel": found.sloth,
            alert_windows.KIND: found.windows,
        },
        own_kinds.API_VERSION: {
            own_kinds.COMPOSITE: found.composites,
            own_kinds.POLICY: found.policies,
        },
    }
    version = str(data.get("apiVersion"))
    if version == API_VERSION:
        return found.openslo
    if version not in kinds:
        raise document.error(
            ("apiVersion",) if "apiVersion" in data else ("version",),
            "neither Sloth v1 nor OpenSLO v1",
            hint=(
                f"write 'version: {sloth.VERSION}' (Sloth) or 'apiVersion: {API_VERSION}' (OpenSLO)"
            ),
        )
    known, kind = kinds[version], str(data.get("kind"))
    if kind not in known:
        near = get_close_matches(kind, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
        raise document.error(("kind",), f"unknown kind {kind!r} of {version}", hint=hint)
    return known[kind]


def _refuse_twins(slos: list[Slo]) -> None:
    if len(slos) > _MAX_SLOS:
        raise ConfigError(f"{len(slos)} SLOs are more than {_MAX_SLOS}", hint="split the service")
    seen: dict[str, Slo] = {}
    for slo in slos:
        other = seen.setdefault(slo.id, slo)
        if other is not slo:
            raise ConfigError(
                f"the SLO {slo.name!r} of {slo.service!r} stands twice",
                file=slo.file,
                line=slo.line,
                hint=f"the other is at {other.file}:{other.line}; give one another name",
            )

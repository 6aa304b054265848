"""SLO files: OpenSLO v1 and Sloth v1, as many documents in a file as you like."""

from __future__ import annotations

from collections.abc import Mapping

from slos.definition import Slo
from slos.openslo import API_VERSION, parse_openslo
from slos.sloth import parse_sloth
from store.documents import Document, parse_documents
from store.errors import ConfigError

SLOTH_VERSION = "prometheus/v1"
_MAX_CHARACTERS = 2_000_000
_MAX_SLOS = 1_000


def parse_slos(text: str, file: str) -> list[Slo]:
    """The SLOs of one file.

    Raises:
        ConfigError: With file, line and what to write instead.
    """
    return parse_slo_files({file: text})


def parse_slo_files(files: Mapping[str, str]) -> list[Slo]:
    """The SLOs of a set of files (name to text); an SLI of one may be referred to in another.

    Raises:
        ConfigError: With file, line and what to write instead.
    """
    slos: list[Slo] = []
    openslo: list[Document] = []
    for file, text in files.items():
        if len(text) > _MAX_CHARACTERS:
            raise ConfigError(f"longer than {_MAX_CHARACTERS} characters", file=file)
        for document in parse_documents(text, file):
            if document.data is None:
                continue
            if _format(document) == API_VERSION:
                openslo.append(document)
            else:
                slos.extend(parse_sloth(document))
    slos.extend(parse_openslo(openslo))
    _refuse_twins(slos)
    return slos


def _format(document: Document) -> str:
    data = document.data if isinstance(document.data, dict) else {}
    for key, known in (("apiVersion", API_VERSION), ("version", SLOTH_VERSION)):
        if data.get(key) == known:
            return known
    hint = f"write 'version: {SLOTH_VERSION}' (Sloth) or 'apiVersion: {API_VERSION}' (OpenSLO)"
    raise document.error(
        ("apiVersion",) if "apiVersion" in data else ("version",),
        "neither Sloth v1 nor OpenSLO v1",
        hint=hint,
    )


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

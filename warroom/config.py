"""The only reader of configuration files and of the environment.

`warroom.yaml` is checked against the models here; what a room owns (rules, SLOs, routes, scrapes)
is only read here and parsed by its room.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from typing_extensions import override

from store.documents import Document, parse_document
from store.errors import ConfigError
from warroom.mistakes import said
from warroom.units import duration_s, label_name, size_bytes

Duration = Annotated[float, BeforeValidator(duration_s)]
Size = Annotated[int, BeforeValidator(size_bytes)]
LabelName = Annotated[str, AfterValidator(label_name)]

OFF = "off"
STORES = ("duckdb", "duckdb:memory")
_PLAIN = (str, int, float, bool)
# Under `alerting:` these are Warroom's; everything else is Alertmanager's.
OWN_ALERTING_KEYS = frozenset(
    {"deadman", "storm", "ack_timeout", "silence_reminder", "ends_pass", "inbound"}
)
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RetentionConfig(_Strict):
    """How long and how much is kept."""

    raw: Duration = 15 * 86_400.0
    rollup_5m: Duration = 400 * 86_400.0
    events: Duration = 400 * 86_400.0
    max_bytes: Size = 50 * 10**9


class StoreConfig(_Strict):
    """Where telemetry is kept."""

    url: str = "duckdb"
    retention: RetentionConfig = RetentionConfig()
    query_cache: Size = 64 * 10**6


class StateConfig(_Strict):
    """Where alerts, findings and the outbox are kept."""

    url: str = "sqlite"


class AuthConfig(_Strict):
    """What a non-loopback listener needs."""

    tls_cert_file: str = ""
    tls_key_file: str = ""
    allowed_hosts: tuple[str, ...] = ()


class RumConfig(_Strict):
    """Which browsers may report."""

    allowed_origins: tuple[str, ...] = ()
    app_keys: tuple[str, ...] = ()
    max_per_second: float = Field(default=500.0, gt=0, le=100_000)


class PerSourceConfig(_Strict):
    """Items a second that one source may send; 0 is no bound."""

    samples_per_second: float = Field(default=0.0, ge=0, le=1e9)
    spans_per_second: float = Field(default=0.0, ge=0, le=1e9)
    events_per_second: float = Field(default=0.0, ge=0, le=1e9)
    logs_per_second: float = Field(default=0.0, ge=0, le=1e9)


class LimitsConfig(_Strict):
    """What keeps senders from taking the service down."""

    memory: Size | Literal["auto"] = "auto"
    max_series: int = Field(default=2_000_000, ge=1_000, le=20_000_000)
    max_future: Duration = Field(default=3_600.0, ge=0, le=86_400)
    per_source: PerSourceConfig = PerSourceConfig()


class FileConfig(_Strict):
    """The top level of `warroom.yaml`."""

    evaluation_interval: Duration = Field(default=5.0, ge=1.0, le=300.0)
    external_url: str = ""
    external_labels: dict[LabelName, str] = {}
    scrape_configs: list[Any] = []
    remote_write: list[Any] = []
    rule_files: tuple[str, ...] = ()
    shipped_rules: bool = True
    slo_files: tuple[str, ...] = ()
    alertmanager_file: str = ""
    alerting: dict[str, Any] | None = None
    on_call: dict[str, Any] = {}
    store: StoreConfig = StoreConfig()
    state: StateConfig = StateConfig()
    pollers: list[dict[str, Any]] = []
    business: dict[str, Any] = {}
    detectors: dict[str, Any] = {}
    boards_dir: str = ""
    auth: AuthConfig = AuthConfig()
    rum: RumConfig = RumConfig()
    limits: LimitsConfig = LimitsConfig()


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 means any free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return self.host in LOOPBACK

    @override
    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that a room will parse."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Options:
    """Command-line options; None means: not given."""

    config: str | None = None
    data_dir: str | None = None
    listen: str | None = None
    otlp_http: str | None = None
    otlp_grpc: str | None = None
    behind_proxy: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the service was told, read once."""

    data_dir: Path
    listen: Address
    otlp_http: Address | None
    otlp_grpc: Address | None
    behind_proxy: bool
    config_name: str
    document: Document
    file: FileConfig
    rule_files: tuple[TextFile, ...] = ()
    slo_files: tuple[TextFile, ...] = ()
    alertmanager: TextFile | None = None
    boards: tuple[TextFile, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: Options = field(default_factory=Options)

    @property
    def in_memory(self) -> bool:
        """Nothing is written to disk (tests, trials)."""
        return self.file.store.url == "duckdb:memory"


def load(options: Options, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the command line, then `WARROOM_…` variables, then the file, then defaults.

    Raises:
        ConfigError: A mistake, with file, line, what is wrong and what to write instead.
    """
    env = dict(os.environ) if environment is None else dict(environment)
    config_path = options.config or env.get("WARROOM_CONFIG")
    name, text = _config_text(config_path)
    document = parse_document(text, name)
    file = _validate(document, env)
    base = Path(config_path).parent if config_path else Path()
    return Settings(
        data_dir=Path(options.data_dir or env.get("WARROOM_DATA_DIR") or "data"),
        listen=parse_address(options.listen or env.get("WARROOM_LISTEN") or "127.0.0.1:8600"),
        otlp_http=_address_or_off(
            options.otlp_http or env.get("WARROOM_OTLP_HTTP") or "127.0.0.1:4318"
        ),
        otlp_grpc=_address_or_off(
            options.otlp_grpc or env.get("WARROOM_OTLP_GRPC") or "127.0.0.1:4317"
        ),
        behind_proxy=options.behind_proxy or env.get("WARROOM_BEHIND_PROXY", "") in {"1", "true"},
        config_name=name,
        document=document,
        file=file,
        rule_files=_read_globs(base, document, "rule_files", file.rule_files),
        slo_files=_read_globs(base, document, "slo_files", file.slo_files),
        alertmanager=_alertmanager(base, document, file),
        boards=_boards(base, document, file),
        environment=env,
        options=options,
    )


def parse_address(text: str) -> Address:
    """`127.0.0.1:8600`, `[::1]:8600` or `:8600` (every interface).

    Raises:
        ConfigError: It is no address.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"{text!r} is no address", hint="write it like 127.0.0.1:8600")
    return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104  # as ":8600" means


def _address_or_off(text: str) -> Address | None:
    return None if text == OFF else parse_address(text)


def _config_text(path: str | None) -> tuple[str, str]:
    if path is None:
        return "(defaults)", ""
    try:
        return path, Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot be read: {exc}", file=path, hint="check --config") from exc


def _validate(document: Document, env: Mapping[str, str]) -> FileConfig:
    data = document.data if document.data is not None else {}
    if not isinstance(data, dict):
        raise document.error(
            (), "a mapping is expected at the top", hint="see docs/configuration.md"
        )
    try:
        config = FileConfig.model_validate(_overridden(data, FileConfig, "WARROOM", env))
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        problem, hint = said(first, FileConfig)
        raise document.error(tuple(first["loc"]), problem, hint=hint) from exc
    if config.store.url not in STORES:
        raise document.error(
            ("store", "url"),
            f"the store {config.store.url!r} is not part of this version",
            hint=f"write one of {', '.join(STORES)}",
        )
    return config


def _overridden(
    data: Mapping[str, Any], model: type[BaseModel], prefix: str, env: Mapping[str, str]
) -> dict[str, Any]:
    """`data` with plain values replaced by variables such as WARROOM_STORE_RETENTION_RAW."""
    merged = dict(data)
    for name, info in model.model_fields.items():
        variable = f"{prefix}_{name}".upper()
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            inner = merged.get(name)
            inner = inner if isinstance(inner, Mapping) else {}
            below = _overridden(inner, info.annotation, variable, env)
            if below != inner:
                merged[name] = below
        elif variable in env and info.annotation in _PLAIN:
            merged[name] = env[variable]
    return merged


def _read_globs(
    base: Path, document: Document, key: str, patterns: tuple[str, ...]
) -> tuple[TextFile, ...]:
    files: list[TextFile] = []
    for index, pattern in enumerate(patterns):
        magic = any(sign in pattern for sign in "*?[")
        root = Path(pattern).anchor or str(base)
        relative = str(Path(pattern).relative_to(Path(pattern).anchor or "."))
        names = sorted(Path(root).glob(relative)) if magic else [Path(root) / relative]
        files.extend(_read(document, (key, index), str(name)) for name in names)
    return tuple(files)


def _read(document: Document, path: tuple[str | int, ...], name: str) -> TextFile:
    try:
        return TextFile(name, Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise document.error(path, f"{name} cannot be read: {exc}") from exc


def _alertmanager(base: Path, document: Document, file: FileConfig) -> TextFile | None:
    if file.alertmanager_file and set(file.alerting or {}) - OWN_ALERTING_KEYS:
        raise document.error(("alerting",), "either alertmanager_file or alerting, not both")
    if file.alertmanager_file:
        return _read(document, ("alertmanager_file",), str(base / file.alertmanager_file))
    return None


def _boards(base: Path, document: Document, file: FileConfig) -> tuple[TextFile, ...]:
    if not file.boards_dir:
        return ()
    return _read_globs(base, document, "boards_dir", (f"{file.boards_dir}/*.yaml",))

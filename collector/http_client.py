"""The HTTP client settings that Prometheus's sections share: credentials, TLS, headers.

A secret is given in place, by a file (`…_file`, read at each request, so that it can be replaced
while the service runs) or by a variable of the environment (`…_env`, read at the start). It never
shows in a repr, a log or an answer.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from collector.config_node import Node, flag, text, text_map
from collector.never_asked import is_never_asked
from store.errors import ConfigError, WarroomError

MAX_SECRET_BYTES = 64 * 1024
# What the client sets by itself; as in Prometheus they cannot be set by hand.
_RESERVED_HEADERS = frozenset(
    {
        "authorization",
        "host",
        "content-encoding",
        "content-length",
        "content-type",
        "x-prometheus-remote-write-version",
        "user-agent",
        "connection",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
        "te",
        "trailer",
    }
)
_TLS_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}


@dataclass(frozen=True, slots=True)
class Secret:
    """A text of its own, or one that a file holds."""

    value: str = field(default="", repr=False)
    file: Path | None = None

    def read(self) -> str:
        """The secret as it is now.

        Raises:
            WarroomError: Its file cannot be read.
        """
        if self.file is None:
            return self.value
        try:
            with self.file.open("rb") as opened:
                return opened.read(MAX_SECRET_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise WarroomError(
                f"the secret in {self.file} cannot be read: {type(error).__name__}",
                hint="check the path and its rights",
            ) from error


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server is trusted and how the client shows itself."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    insecure_skip_verify: bool = False
    min_version: str = ""

    @property
    def has_files(self) -> bool:
        """Whether other certificates may come without another configuration."""
        return self.ca_file is not None or self.cert_file is not None

    def context(self) -> ssl.SSLContext:
        """What httpx verifies with.

        Raises:
            OSError: A file is missing, or is no certificate or key (ssl.SSLError is one).
        """
        context = (
            ssl.create_default_context(cafile=str(self.ca_file))
            if self.ca_file
            else httpx.create_ssl_context(trust_env=False)
        )
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        if self.min_version:
            context.minimum_version = _TLS_VERSIONS[self.min_version]
        return context


@dataclass(frozen=True, slots=True)
class HttpClientConfig:
    """Who asks, and whom it trusts."""

    user: str = ""
    password: Secret | None = None
    authorization_type: str = "Bearer"
    credentials: Secret | None = None
    tls: Tls = Tls()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def request_headers(self) -> dict[str, str]:
        """Headers of one request; files are read anew.

        Raises:
            WarroomError: A secret's file cannot be read.
        """
        headers = dict(self.headers)
        if self.password is not None:
            pair = f"{self.user}:{self.password.read()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        elif self.credentials is not None:
            headers["Authorization"] = f"{self.authorization_type} {self.credentials.read()}"
        return headers

    def extensions(self) -> dict[str, str]:
        """What httpx needs beside: the name that the server's certificate must bear."""
        return {"sni_hostname": self.tls.server_name} if self.tls.server_name else {}

    def client(self, *, max_connections: int = 100) -> httpx.AsyncClient:
        """A client without time limits of its own: the caller bounds each whole request."""
        return httpx.AsyncClient(
            verify=self.tls.context(),
            follow_redirects=False,
            timeout=httpx.Timeout(None),
            limits=httpx.Limits(max_connections=max_connections, keepalive_expiry=120.0),
            trust_env=False,
        )


PLAIN = HttpClientConfig()


def http_client_config(
    node: Node, environment: Mapping[str, str] | None = None, *, headers_key: str = ""
) -> HttpClientConfig:
    """The client settings among the fields of a section.

    Args:
        node: The section.
        environment: Where `…_env` secrets are; None leaves all secrets unread, as a check on
            another machine does.
        headers_key: The field with further headers, if the section has one.

    Raises:
        ConfigError: A mistake, with its line; a file that cannot be read is one.
    """
    for key in ("oauth2", "sigv4", "azuread", "google_iam"):
        node.refuse(key, "is not supported", hint="use authorization with credentials_file")
    for key in ("proxy_url", "proxy_from_environment", "no_proxy", "proxy_connect_header"):
        node.refuse(key, "is not supported", hint="remove it: proxies are not used")
    node.refuse("enable_http2", "is not supported", hint="remove it: HTTP/1.1 is spoken")
    given = [
        key
        for key in ("basic_auth", "authorization", "bearer_token", "bearer_token_file")
        if node.has(key)
    ]
    if len(given) > 1:
        raise node.document.error((*node.path, given[1]), f"either {' or '.join(given)}, not both")
    user, password = _basic_auth(node.child("basic_auth"), environment)
    kind, credentials = _authorization(node.child("authorization"), environment)
    # The old spelling of authorization.
    credentials = credentials or _secret(node, "bearer_token", environment)
    return HttpClientConfig(
        user=user,
        password=password,
        authorization_type=kind,
        credentials=credentials,
        tls=_tls(node.child("tls_config")),
        headers=_headers(node, headers_key) if headers_key else {},
    )


def _basic_auth(
    node: Node | None, environment: Mapping[str, str] | None
) -> tuple[str, Secret | None]:
    if node is None:
        return "", None
    user = node.get("username", text, "")
    password = _secret(node, "password", environment) or Secret()
    node.done()
    return user, password


def _authorization(
    node: Node | None, environment: Mapping[str, str] | None
) -> tuple[str, Secret | None]:
    if node is None:
        return "Bearer", None
    kind = node.get("type", text, "Bearer").strip()
    credentials = _secret(node, "credentials", environment)
    node.done()
    if kind.lower() == "basic":
        raise node.document.error(
            (*node.path, "type"), "the type basic is not taken here", hint="use basic_auth"
        )
    if credentials is None:
        raise node.document.error(node.path, "authorization needs credentials or credentials_file")
    return kind, credentials


def _secret(node: Node, key: str, environment: Mapping[str, str] | None) -> Secret | None:
    given = [name for name in (key, f"{key}_file", f"{key}_env") if node.has(name)]
    value = node.get(key, text, "")
    file = node.file(f"{key}_file")
    variable = node.get(f"{key}_env", text, "")
    if len(given) > 1:
        raise node.document.error((*node.path, given[1]), f"either {' or '.join(given)}, not both")
    if not given:
        return None
    if file is not None:
        secret = Secret(file=file)
        try:
            _ = environment is not None and secret.read()
        except WarroomError as error:
            raise node.document.error(
                (*node.path, given[0]), error.message, hint=error.hint
            ) from error
        return secret
    if variable and environment is not None:
        if variable not in environment:
            raise node.document.error(
                (*node.path, given[0]),
                f"the environment has no variable {variable}",
                hint=f"set it, or use {key}_file",
            )
        value = environment[variable]
    return Secret(value)


def _tls(node: Node | None) -> Tls:
    if node is None:
        return Tls()
    tls = Tls(
        ca_file=node.file("ca_file"),
        cert_file=node.file("cert_file"),
        key_file=node.file("key_file"),
        server_name=node.get("server_name", text, ""),
        insecure_skip_verify=node.get("insecure_skip_verify", flag, default=False),
        min_version=node.get("min_version", _tls_version, ""),
    )
    node.done()
    if (tls.cert_file is None) != (tls.key_file is None):
        raise node.document.error(node.path, "cert_file and key_file belong together")
    try:
        tls.context()
    except OSError as error:
        raise node.document.error(
            node.path, f"the certificates cannot be loaded: {error.strerror or error}"
        ) from error
    return tls


def _tls_version(value: object) -> str:
    if value not in _TLS_VERSIONS:
        raise ValueError(f"one of {', '.join(_TLS_VERSIONS)} is expected")
    return str(value)


def _headers(node: Node, key: str) -> dict[str, str]:
    headers: dict[str, str] = node.get(key, text_map, {})
    for name, value in headers.items():
        where = (*node.path, key, name)
        if name.lower() in _RESERVED_HEADERS:
            raise node.document.error(
                where, f"the header {name} cannot be set here", hint="see authorization"
            )
        try:
            httpx.Headers({name: value})
        except (UnicodeEncodeError, ValueError) as error:
            raise node.document.error(where, f"the header {name} is not plain ASCII") from error
        if any(sign in name + value for sign in "\r\n\0"):
            raise node.document.error(where, f"the header {name[:40]!r} holds a line break")
    return headers


def checked_url(url: str) -> str:
    """A URL that may be asked: http or https, a host, and no password in it.

    Raises:
        ConfigError: It is none.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{url[:60]!r} is no URL") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError("a URL with http:// or https:// and a host is expected")
    if is_never_asked(parsed.host):
        raise ConfigError(
            "link-local addresses and those of a cloud's metadata are never asked",
            hint="name another host",
        )
    if parsed.userinfo:
        raise ConfigError("the URL holds a password", hint="use basic_auth")
    return url

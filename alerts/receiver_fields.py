"""Fields that several kinds of receivers share: secrets, addresses, templated texts."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from alerts.fields import Fields
from alerts.route_tree import Secret
from alerts.template_check import check_notice_template
from alerts.template_text import TemplateError

# Answers ("file" | "env", name) with the secret; only the composition root can read either.
SecretReader = Callable[[str, str], str]

_MAX_SECRET = 4096


@dataclass(frozen=True, slots=True)
class Globals:
    """What the section `global` gives to every receiver that does not say otherwise."""

    texts: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    smtp_require_tls: bool = True


def http_url(fields: Fields, name: str, text: str) -> str:
    """The text, if it is an http or https address."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise fields.error(name, f"{name!r} must be an http or https address")
    return text


def secret(fields: Fields, name: str, read: SecretReader) -> Secret | None:
    """`name`, `name_file` or `name_env`; at most one of them.

    Raises:
        ConfigError: Several are given, or the secret cannot be read.
    """
    given = [n for n in (name, f"{name}_file", f"{name}_env") if fields.has(n)]
    if len(given) > 1:
        raise fields.error(given[1], f"at most one of {', '.join(given)} may be given")
    plain = fields.string(name, "")
    by_file, by_env = fields.string(f"{name}_file", ""), fields.string(f"{name}_env", "")
    if not given:
        return None
    if by_file or by_env:
        source, reference = ("file", by_file) if by_file else ("env", by_env)
        try:
            plain = read(source, reference).strip()
        except (OSError, KeyError, UnicodeDecodeError) as exc:
            raise fields.error(
                given[0],
                f"the secret of {given[0]} cannot be read ({type(exc).__name__})",
                hint=f"check the {'file' if by_file else 'environment variable'} {reference!r}",
            ) from exc
    if not plain or len(plain) > _MAX_SECRET:
        raise fields.error(given[0], f"{given[0]} is empty or too long")
    return Secret(plain)


def texts(fields: Fields, *names: str) -> dict[str, str]:
    """Those of the named fields that are given; a template among them must be well formed."""
    found = {}
    for name in names:
        text = fields.string(name, "")
        if text:
            found[name] = checked_text(fields, name, text)
    return found


def checked_text(fields: Fields, name: str, text: str) -> str:
    """The text, if it is a well-formed template."""
    try:
        check_notice_template(text)
    except TemplateError as exc:
        problem = f"the template of {name!r} is not valid: {exc}"
        raise fields.error(
            name, problem, hint="templates are Go's, over Alertmanager's data"
        ) from exc
    return text


def authorization(fields: Fields, read: SecretReader) -> Secret | None:
    """The `Authorization` header of an `http_config`; None without one."""
    config = fields.child("http_config", "an http_config")
    if config is None:
        return None
    config.ignore("follow_redirects", "enable_http2")
    header = None
    by_scheme = config.child("authorization", "the authorization")
    if by_scheme is not None:
        credentials = secret(by_scheme, "credentials", read)
        if credentials is None:
            raise by_scheme.error("credentials", "an authorization needs credentials")
        header = Secret(f"{by_scheme.string('type', 'Bearer')} {credentials.value}")
        by_scheme.done()
    basic = config.child("basic_auth", "the basic_auth")
    if basic is not None:
        password = secret(basic, "password", read)
        pair = f"{basic.string('username')}:{password.value if password else ''}"
        header = Secret(f"Basic {base64.b64encode(pair.encode()).decode()}")
        basic.done()
    config.done()
    return header

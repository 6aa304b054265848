"""Receivers of an Alertmanager configuration: which are supported, and what each one takes."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import orjson

from alerts.fields import Fields
from alerts.route_tree import Integration, Receiver, Secret

# Answers ("file" | "env", name) with the secret; only the composition root can read either.
SecretReader = Callable[[str, str], str]

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
_PAGERDUTY_TEXTS = ("client", "client_url", "description", "severity", "class", "component")
_MAX_SECRET = 4096


def parse_receiver(fields: Fields, global_texts: dict[str, str], read: SecretReader) -> Receiver:
    """One receiver.

    Raises:
        ConfigError: A field is wrong, or it is of a kind that Warroom does not deliver to.
    """
    name = fields.string("name")
    integrations = [
        _pagerduty(child, global_texts, read)
        for child in fields.children("pagerduty_configs", "a pagerduty_config")
    ]
    integrations += [
        _webhook(child, read) for child in fields.children("webhook_configs", "a webhook_config")
    ]
    for kind in fields.document.data["receivers"][fields.path[-1]]:
        if str(kind).endswith("_configs") and kind not in {"pagerduty_configs", "webhook_configs"}:
            raise fields.error(
                str(kind),
                f"the receiver {name!r} uses {kind}, which Warroom does not deliver to",
                hint="supported are pagerduty_configs and webhook_configs",
            )
    fields.done()
    return Receiver(name, tuple(integrations))


def _pagerduty(fields: Fields, global_texts: dict[str, str], read: SecretReader) -> Integration:
    if fields.has("service_key") or fields.has("service_key_file"):
        raise fields.error(
            "service_key",
            "service_key belongs to PagerDuty's old Events API v1",
            hint="use the routing_key of an Events API v2 integration",
        )
    key = _secret(fields, "routing_key", read)
    if key is None:
        raise fields.error(
            "routing_key",
            "a pagerduty_config needs a routing_key",
            hint="write routing_key, routing_key_file or routing_key_env",
        )
    options = {
        "url": _http_url(
            fields, "url", fields.string("url", global_texts.get("pagerduty_url") or PAGERDUTY_URL)
        )
    }
    for option in (*_PAGERDUTY_TEXTS, "group", "source"):
        text = fields.string(option, "")
        if text:
            options[option] = text
    details = fields.text_mapping("details")
    if details:
        options["details"] = orjson.dumps(details).decode()
    integration = Integration(
        kind="pagerduty",
        send_resolved=fields.boolean("send_resolved", default=True),
        send_updates=fields.boolean("send_updates", default=True),
        options=options,
        secrets={"routing_key": key},
    )
    fields.done()
    return integration


def _webhook(fields: Fields, read: SecretReader) -> Integration:
    address = _secret(fields, "url", read)
    if address is None:
        raise fields.error("url", "a webhook_config needs a url", hint="url, url_file or url_env")
    _http_url(fields, "url", address.value)
    secrets = {"url": address}
    signing = _secret(fields, "secret", read)
    if signing is not None:
        secrets["signing"] = signing
    integration = Integration(
        kind="webhook",
        send_resolved=fields.boolean("send_resolved", default=True),
        send_updates=fields.boolean("send_updates", default=True),
        options={"max_alerts": str(fields.integer("max_alerts", 0))},
        secrets=secrets,
    )
    fields.done()
    return integration


def _http_url(fields: Fields, name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise fields.error(name, f"{name!r} must be an http or https address")
    return text


def _secret(fields: Fields, name: str, read: SecretReader) -> Secret | None:
    """`name`, `name_file` or `name_env`; at most one of them."""
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

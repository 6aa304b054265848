"""Receivers of an Alertmanager configuration: which are supported, and what each one takes."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

from alerts.fields import Fields
from alerts.notifiers.apprise import INSTALL, PAGING_SCHEMES, installed
from alerts.receiver_fields import (
    Globals,
    SecretReader,
    authorization,
    checked_text,
    http_url,
    secret,
    texts,
)
from alerts.route_tree import ESCALATION, Integration, Receiver, Secret

PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
OPSGENIE_URL = "https://api.opsgenie.com/"
SLACK_URL = "https://slack.com/api/chat.postMessage"
_PAGERDUTY_TEXTS = ("client", "client_url", "description", "severity", "class", "component")
_SLACK_TEXTS = (
    *("channel", "username", "icon_emoji", "icon_url", "color", "title", "title_link", "pretext"),
    *("text", "footer", "fallback", "message_text"),
)
_SLACK_IGNORED = ("short_fields", "callback_id", "image_url", "thumb_url", "mrkdwn_in", "actions")
NEWRELIC_URLS = {
    "us": "https://insights-collector.newrelic.com",
    "eu": "https://insights-collector.eu01.nr-data.net",
}
_EVENT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_:]{0,254}")
_OPSGENIE_TEXTS = ("message", "description", "source", "entity", "tags", "note", "priority")
_OPSGENIE_IGNORED = ("actions", "update_alerts")
_MAX_PORT = 65_535

Parse = Callable[[Fields, Globals, SecretReader], Integration]


def parse_receiver(fields: Fields, shared: Globals, read: SecretReader) -> Receiver:
    """One receiver.

    Raises:
        ConfigError: A field is wrong, or it is of a kind that Warroom does not deliver to.
    """
    name = fields.string("name")
    integrations = [
        parse(child, shared, read)
        for kind, parse in PARSERS.items()
        for child in fields.children(f"{kind}_configs", f"a {kind}_config")
    ]
    supported = [f"{kind}_configs" for kind in PARSERS]
    for kind in fields.names:
        if str(kind).endswith("_configs") and kind not in supported:
            raise fields.error(
                str(kind),
                f"the receiver {name!r} uses {kind}, which Warroom does not deliver to",
                hint=f"supported are {', '.join(supported)}",
            )
    policy = fields.string("escalation_policy", "")
    if policy:
        # Its steps know when to speak again.
        integrations.append(Integration(ESCALATION, send_updates=False))
    fields.done()
    return Receiver(name, tuple(integrations), policy)


def _made(
    fields: Fields,
    kind: str,
    options: dict[str, str],
    secrets: dict[str, Secret | None],
    *,
    send_resolved: bool = True,
) -> Integration:
    integration = Integration(
        kind=kind,
        send_resolved=fields.boolean("send_resolved", default=send_resolved),
        send_updates=fields.boolean("send_updates", default=True),
        options=options,
        secrets={name: value for name, value in secrets.items() if value is not None},
    )
    fields.done()
    return integration


def _pagerduty(fields: Fields, shared: Globals, read: SecretReader) -> Integration:
    if fields.has("service_key") or fields.has("service_key_file"):
        raise fields.error(
            "service_key",
            "service_key belongs to PagerDuty's old Events API v1",
            hint="use the routing_key of an Events API v2 integration",
        )
    key = secret(fields, "routing_key", read)
    if key is None:
        raise fields.error(
            "routing_key",
            "a pagerduty_config needs a routing_key",
            hint="write routing_key, routing_key_file or routing_key_env",
        )
    default = shared.texts.get("pagerduty_url") or PAGERDUTY_URL
    options = {"url": http_url(fields, "url", fields.string("url", default))}
    options |= texts(fields, *_PAGERDUTY_TEXTS, "group", "source")
    details = fields.text_mapping("details")
    if details:
        options["details"] = orjson.dumps(details).decode()
    return _made(fields, "pagerduty", options, {"routing_key": key})


def _webhook(fields: Fields, _shared: Globals, read: SecretReader) -> Integration:
    address = secret(fields, "url", read)
    if address is None:
        raise fields.error("url", "a webhook_config needs a url", hint="url, url_file or url_env")
    http_url(fields, "url", address.value)
    fields.ignore("timeout")
    secrets = {"url": address, "signing": secret(fields, "secret", read)}
    secrets["authorization"] = authorization(fields, read)
    options = {"max_alerts": str(fields.integer("max_alerts", 0))}
    return _made(fields, "webhook", options, secrets)


def _slack(fields: Fields, shared: Globals, read: SecretReader) -> Integration:
    token = secret(fields, "app_token", read) or shared.secrets.get("slack_app_token")
    address = secret(fields, "api_url", read)
    if address is None and token is None:
        address = shared.secrets.get("slack_api_url")
    if (address is None) == (token is None):
        raise fields.error(
            "api_url",
            "a slack_config needs either an api_url (incoming webhook) or an app_token (bot)",
            hint="api_url, api_url_file or api_url_env; app_token, app_token_file or app_token_env",
        )
    if address is not None:
        http_url(fields, "api_url", address.value)
    options = texts(fields, *_SLACK_TEXTS)
    app_url = fields.string("app_url", shared.texts.get("slack_app_url") or SLACK_URL)
    options["app_url"] = http_url(fields, "app_url", app_url)
    if token is not None and "channel" not in options:
        raise fields.error("channel", "a slack_config with an app_token needs a channel")
    listed = [_slack_field(child) for child in fields.children("fields", "a Slack field")]
    if listed:
        options["fields"] = orjson.dumps(listed).decode()
    options["link_names"] = "1" if fields.boolean("link_names", default=False) else ""
    options["acknowledge_button"] = (
        "1" if fields.boolean("acknowledge_button", default=False) else ""
    )
    options["update_message"] = "1" if fields.boolean("update_message", default=True) else ""
    fields.ignore(*_SLACK_IGNORED)
    secrets = {"api_url": address, "app_token": token}
    return _made(fields, "slack", options, secrets, send_resolved=False)


def _slack_field(fields: Fields) -> dict[str, str | bool]:
    field: dict[str, str | bool] = {
        "title": checked_text(fields, "title", fields.string("title")),
        "value": checked_text(fields, "value", fields.string("value")),
        "short": fields.boolean("short", default=False),
    }
    fields.done()
    return field


def _msteams(fields: Fields, _shared: Globals, read: SecretReader) -> Integration:
    address = secret(fields, "webhook_url", read)
    if address is None:
        raise fields.error(
            "webhook_url",
            "an msteamsv2_config needs a webhook_url",
            hint="the address of a Workflows webhook: webhook_url, webhook_url_file or _env",
        )
    http_url(fields, "webhook_url", address.value)
    secrets = {"webhook_url": address, "authorization": authorization(fields, read)}
    return _made(fields, "msteamsv2", texts(fields, "title", "text"), secrets)


def _opsgenie(fields: Fields, shared: Globals, read: SecretReader) -> Integration:
    key = secret(fields, "api_key", read) or shared.secrets.get("opsgenie_api_key")
    if key is None:
        raise fields.error(
            "api_key",
            "an opsgenie_config needs an api_key",
            hint="api_key, api_key_file or api_key_env, or opsgenie_api_key under global",
        )
    default = shared.texts.get("opsgenie_api_url") or OPSGENIE_URL
    options = {"api_url": http_url(fields, "api_url", fields.string("api_url", default))}
    options |= texts(fields, *_OPSGENIE_TEXTS)
    details = fields.text_mapping("details")
    if details:
        options["details"] = orjson.dumps(details).decode()
    responders = [_responder(c) for c in fields.children("responders", "a responder")]
    if responders:
        options["responders"] = orjson.dumps(responders).decode()
    fields.ignore(*_OPSGENIE_IGNORED)
    return _made(fields, "opsgenie", options, {"api_key": key})


def _responder(fields: Fields) -> dict[str, str]:
    found = texts(fields, "id", "name", "username", "type")
    if "type" not in found or len(found) < 2:
        raise fields.error("type", "a responder needs a type, and an id, name or username")
    fields.done()
    return found


def _newrelic(fields: Fields, _shared: Globals, read: SecretReader) -> Integration:
    key = secret(fields, "license_key", read)
    account, region = fields.integer("account", 0), fields.string("region", "us")
    if key is None or account <= 0:
        raise fields.error(
            "license_key",
            "a newrelic_config needs a license_key and the number of its account",
            hint="license_key, license_key_file or license_key_env; account: 1234567",
        )
    if region not in NEWRELIC_URLS:
        raise fields.error("region", f"{region!r} is no region", hint="us or eu")
    event_type = fields.string("event_type", "WarroomAlert")
    if not _EVENT_TYPE.fullmatch(event_type):
        raise fields.error("event_type", f"{event_type[:60]!r} is no type of events")
    host = http_url(fields, "url", fields.string("url", NEWRELIC_URLS[region])).rstrip("/")
    options = {"url": f"{host}/v1/accounts/{account}/events", "event_type": event_type}
    return _made(fields, "newrelic", options, {"license_key": key})


def _email(fields: Fields, shared: Globals, read: SecretReader) -> Integration:
    def text(name: str, default: str = "") -> str:
        return fields.string(name, shared.texts.get(f"smtp_{name}") or default)

    options = {"to": fields.string("to"), "from": text("from"), "hello": text("hello", "localhost")}
    options["auth_username"] = text("auth_username")
    options["smarthost"] = smarthost = text("smarthost")
    host, _, port = smarthost.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _MAX_PORT:
        raise fields.error(
            "smarthost", "an email_config needs a smarthost", hint="write it like mail.example:587"
        )
    if not options["from"]:
        raise fields.error("from", "an email_config needs from", hint="or smtp_from under global")
    options["require_tls"] = (
        "1" if fields.boolean("require_tls", default=shared.smtp_require_tls) else ""
    )
    options |= texts(fields, "html", "text")
    headers = fields.text_mapping("headers")
    for name, value in headers.items():
        checked_text(fields, "headers", value)
        if not name.isascii() or not name.replace("-", "").isalnum():
            raise fields.error("headers", f"{name!r} is no header name")
    if headers:
        options["headers"] = orjson.dumps(headers).decode()
    tls = fields.child("tls_config", "a tls_config")
    if tls is not None:
        options["insecure"] = "1" if tls.boolean("insecure_skip_verify", default=False) else ""
        options["ca_file"] = tls.string("ca_file", "")
        tls.done()
    password = secret(fields, "auth_password", read) or shared.secrets.get("smtp_auth_password")
    fields.ignore("auth_identity")
    return _made(fields, "email", options, {"auth_password": password}, send_resolved=False)


def _apprise(fields: Fields, _shared: Globals, read: SecretReader) -> Integration:
    if not installed():
        raise fields.error(
            "url", "apprise_configs needs a library that is not installed", hint=INSTALL
        )
    address = secret(fields, "url", read)
    if address is None:
        raise fields.error("url", "an apprise_config needs a url", hint="url, url_file or url_env")
    scheme = address.value.partition("://")[0].lower()
    if scheme in PAGING_SCHEMES:
        hint = f"use {scheme}_configs, which resolve and acknowledge what they open"
        raise fields.error("url", f"apprise cannot page by {scheme}", hint=hint)
    return _made(fields, "apprise", {}, {"url": address})


PARSERS: dict[str, Parse] = {
    "pagerduty": _pagerduty,
    "webhook": _webhook,
    "slack": _slack,
    "msteamsv2": _msteams,
    "opsgenie": _opsgenie,
    "newrelic": _newrelic,
    "email": _email,
    "apprise": _apprise,
}

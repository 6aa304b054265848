"""E-mail over SMTP: plain text and HTML, one thread for each group.

Port 465 is TLS from the first byte; elsewhere STARTTLS, unless `require_tls` is false.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses
from functools import partial
from html import escape

import httpx
import orjson
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from alerts.notice_template import rendered
from alerts.notification import DeliveryError, Notice, Receipt
from alerts.page import Page, page_of
from alerts.route_tree import Integration

TIMEOUT_S = 15.0
# A whole session, however slowly the smart host speaks; below the outbox's deadline.
SESSION_S = 30.0
_MAX_SESSIONS = 4
# Threads of its own: a smart host that hangs must not take those that ticks run on.
_LIMITER: RunVar[CapacityLimiter] = RunVar("smtp_sessions")
_IMPLICIT_TLS = 465
_MAX_TEXT = 200_000
_MAX_RECIPIENTS = 100


async def deliver(
    notice: Notice, integration: Integration, client: httpx.AsyncClient, now_ms: int
) -> Receipt:
    """Hand one message to the smart host. 5xx is permanent, 4xx and lost connections pass."""
    del client  # SMTP, not HTTP
    message = mail(notice, integration, now_ms)
    live: list[smtplib.SMTP] = []
    try:
        async with asyncio.timeout(SESSION_S):
            refused = await to_thread.run_sync(
                partial(_send, message, integration, live),
                abandon_on_cancel=True,
                limiter=_limiter(),
            )
    except smtplib.SMTPRecipientsRefused as exc:
        codes = [code for code, _ in exc.recipients.values()]
        raise _failed(max(codes), "every recipient was refused") from exc
    except smtplib.SMTPResponseException as exc:
        said = exc.smtp_error if isinstance(exc.smtp_error, str) else exc.smtp_error.decode(
            "utf-8", "replace"
        )  # fmt: skip
        raise _failed(exc.smtp_code, " ".join(said.split())[:200]) from exc
    except smtplib.SMTPNotSupportedError as exc:
        raise DeliveryError(f"the smart host cannot do it: {exc}", permanent=True) from exc
    except (OSError, smtplib.SMTPException) as exc:
        raise DeliveryError(f"no SMTP session: {type(exc).__name__}", permanent=False) from exc
    finally:
        _end(live)
    left = f"; refused: {len(refused)}" if refused else ""
    return Receipt(250, f"{message['Message-ID']}{left}")


class _Session(smtplib.SMTP):
    """A session that is in `live` before it connects."""

    def __init__(self, live: list[smtplib.SMTP], host: str, port: int, hello: str) -> None:
        live.append(self)
        super().__init__(host, port, hello, timeout=TIMEOUT_S)


class _TlsSession(smtplib.SMTP_SSL):
    """The same, over TLS from the first byte."""

    def __init__(
        self,
        live: list[smtplib.SMTP],
        host: str,
        port: int,
        hello: str,
        context: ssl.SSLContext,
    ) -> None:
        live.append(self)
        super().__init__(host, port, hello, timeout=TIMEOUT_S, context=context)


def _limiter() -> CapacityLimiter:
    limiter = _LIMITER.get(None)
    if limiter is None:
        limiter = CapacityLimiter(_MAX_SESSIONS)
        _LIMITER.set(limiter)
    return limiter


def _end(live: list[smtplib.SMTP]) -> None:
    """Wake a thread that still waits for the smart host: its session is given up."""
    for session in live:
        line = getattr(session, "sock", None)
        if line is not None:
            with suppress(OSError):
                # Not the TLS socket's own: that would let the thread go on in the clear.
                socket.socket.shutdown(line, socket.SHUT_RDWR)


def _failed(code: int, said: str) -> DeliveryError:
    return DeliveryError(f"SMTP answered {code}: {said}", permanent=code >= 500, status=code)


def _send(
    message: EmailMessage, integration: Integration, live: list[smtplib.SMTP]
) -> dict[str, tuple[int, bytes]]:
    options = integration.options
    host, _, port = options["smarthost"].rpartition(":")
    context = _tls(options)
    implicit = int(port) == _IMPLICIT_TLS
    session: smtplib.SMTP = (
        _TlsSession(live, host, int(port), options["hello"], context)
        if implicit
        else _Session(live, host, int(port), options["hello"])
    )
    with session:
        if not implicit and options.get("require_tls"):
            session.starttls(context=context)
        password = integration.secrets.get("auth_password")
        if options.get("auth_username") and password is not None:
            session.login(options["auth_username"], password.value)
        return session.send_message(message)


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ca_file") or None)
    if options.get("insecure"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def mail(notice: Notice, integration: Integration, now_ms: int) -> EmailMessage:
    """The message. Its subject can hold no line break: headers cannot be smuggled in."""
    given = integration.options
    headers = orjson.loads(given.get("headers", "{}"))
    own: dict[str, str] = {name: given[name] for name in ("html", "text") if name in given}
    own |= {f"header {name}": text for name, text in headers.items()}
    options = rendered(own, notice)
    page = page_of(notice)
    domain = (given["from"].rpartition("@")[2].strip(" >") or "warroom").encode("idna").decode()
    message = EmailMessage()
    message["From"] = given["from"]
    message["To"] = ", ".join(f"{n} <{a}>" if n else a for n, a in _recipients(given["to"]))
    message["Date"] = format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))
    message["Message-ID"] = f"<{notice.id}@{domain}>"
    message["References"] = f"<group-{notice.dedup_key[:64]}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message["Subject"] = _line(page.summary or "Warroom alert")[:250]
    for name in headers:
        if f"header {name}" in options:
            del message[name]
            message[name] = _line(options[f"header {name}"])
    message.set_content((options.get("text") or _text(page))[:_MAX_TEXT])
    message.add_alternative((options.get("html") or _html(page))[:_MAX_TEXT], subtype="html")
    return message


def _recipients(text: str) -> list[tuple[str, str]]:
    return getaddresses([text])[:_MAX_RECIPIENTS]


def _line(text: str) -> str:
    return " ".join(text.split())


def _text(page: Page) -> str:
    links = "".join(f"\n{text}: {url}" for text, url in page.links)
    return f"{page.text()}\n{links}\n"


def _html(page: Page) -> str:
    parts = (("Cause", page.cause), ("Since", page.since), ("Impact", page.impact))
    rows = "".join(
        f"<tr><th align=left valign=top>{name}</th><td>{escape(text)}</td></tr>"
        for name, text in (*parts, ("Try", page.fix))
        if text
    )
    others = "".join(f"<li>{escape(line)}</li>" for line in page.others)
    links = " · ".join(f'<a href="{escape(url)}">{escape(text)}</a>' for text, url in page.links)
    return (
        f"<html><body><h2>{escape(page.summary)}</h2><table cellpadding=4>{rows}</table>"
        f"{f'<p>Also:</p><ul>{others}</ul>' if others else ''}<p>{links}</p></body></html>"
    )

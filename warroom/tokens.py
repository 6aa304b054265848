"""`warroom token`: works on the state database itself, so that the first token can be made."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from api.tokens.repository import Role, TokenRepository
from store.errors import BadInput
from store.sql import open_engine, open_sessions, upgrade
from warroom.clock import system_now_ms
from warroom.config import Options, Settings, load
from warroom.state import state_url

_DAY_MS = 86_400_000


def run(options: Options, arguments: argparse.Namespace, show: Callable[[str], None]) -> int:
    """Create, list or revoke."""
    settings = load(options)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = open_engine(state_url(settings))
    upgrade(engine)
    tokens = TokenRepository(open_sessions(engine))
    try:
        return _act(tokens, settings, arguments, show)
    finally:
        engine.dispose()


def _act(
    tokens: TokenRepository,
    settings: Settings,
    arguments: argparse.Namespace,
    show: Callable[[str], None],
) -> int:
    if arguments.action == "list":
        for token in tokens.all():
            show(f"{token.id}  {token.role:<7}  {token.name}")
        return 0
    if not arguments.name:
        raise BadInput(f"token {arguments.action} needs a name or an id")
    if arguments.action == "revoke":
        if not tokens.revoke(arguments.name):
            raise BadInput(f"there is no token with the id {arguments.name!r}")
        return 0
    now_ms = system_now_ms()
    expires_ms = now_ms + arguments.days * _DAY_MS if arguments.days else None
    token, secret = tokens.create(arguments.name, Role(arguments.role), now_ms, expires_ms)
    show(f"{secret}")
    show(f"id {token.id}; the token is shown this once")
    if token.role is Role.DISPLAY:
        base = settings.file.external_url or f"https://{settings.listen}"
        show(f"on the wall display open {base}/?tv=1#token={secret}")
    if token.role is Role.CALENDAR:
        base = settings.file.external_url or f"https://{settings.listen}"
        address = f"{base.rstrip('/')}/api/warroom/v1/on-call/<schedule>.ics?key={secret}"
        show(f"in a calendar program subscribe to {address}")
    return 0

"""HTTP listeners: several uvicorn servers in one event loop, started and stopped by us."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from store.errors import WarroomError
from warroom.config import Address
from warroom.http_protocol import BoundedHead

# An open live stream would otherwise hold the shutdown for ever.
_GRACE_S = 2


class PortTaken(WarroomError):
    """Somebody else listens there."""


class _Server(uvicorn.Server):
    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The command line owns the signals: there may be several servers.
        yield


class Listener:
    """One ASGI application on one address."""

    def __init__(
        self, app: ASGIApp, address: Address, *, purpose: str, tls: tuple[str, str] | None = None
    ) -> None:
        self._address = address
        self._purpose = purpose
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                host=address.host,
                port=address.port,
                loop="none",
                http=BoundedHead,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                timeout_graceful_shutdown=_GRACE_S,
                timeout_keep_alive=75,
                backlog=4096,
                ssl_certfile=tls[0] if tls else None,
                ssl_keyfile=tls[1] if tls else None,
            )
        )

    @property
    def address(self) -> Address:
        """Where it really listens: port 0 is replaced once started."""
        if self._socket is None:
            return self._address
        return Address(self._address.host, self._socket.getsockname()[1])

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            PortTaken: The address is in use, or may not be used.
        """
        self._socket = self._bind()
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.005)

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((self._address.host, self._address.port))
        except OSError as exc:
            sock.close()
            taken = exc.errno == errno.EADDRINUSE
            why = "is in use by another process" if taken else f"cannot be used: {exc.strerror}"
            raise PortTaken(
                f"{self._address} {why}", hint=f"give {self._purpose} another address, or port 0"
            ) from exc
        return sock

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        if self._socket is not None:
            self._socket.close()

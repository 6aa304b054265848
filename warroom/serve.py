"""`warroom serve`: run the service until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import threading

import structlog

from store.errors import WarroomError
from warroom import memory
from warroom.app import Service, build
from warroom.clock import system_now_ms
from warroom.config import Options, Settings, load
from warroom.reach import unreached
from warroom.telemetry import configure_logs

log = structlog.get_logger()


def serve(options: Options, *, log_level: str, log_json: bool) -> int:
    """Run until SIGTERM or Ctrl-C.

    Raises:
        WarroomError: The configuration is wrong, a port is taken, the store cannot be opened.
    """
    # What the service writes is nobody else's to read.
    os.umask(0o077)
    configure_logs(level=log_level, json=log_json)
    settings = load(options)
    _refuse_to_be_open(settings)
    import uvloop  # noqa: PLC0415  # absent on some systems; only the server needs it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    service = build(settings, now=system_now_ms)
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.create_task(_reload(service))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await service.listen()
        _announce(service)
        with contextlib.suppress(asyncio.CancelledError):
            await _until(stop, service)
        print("warroom: stopping", flush=True)
    finally:
        await service.stop()
        # What stays frozen is never let go, and DuckDB's binding reports it as leaked at the exit.
        gc.unfreeze()


async def _reload(service: Service) -> None:
    """What SIGHUP asks for; a mistake is logged, and what was in force stays in force."""
    with contextlib.suppress(WarroomError):
        await service.configuration.reload()


async def _until(stop: asyncio.Event, service: Service) -> None:
    """Warm up and run; a signal ends either at once."""
    starting = asyncio.create_task(service.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        memory.settle()
        print(f"warroom: ready at {service.url}", flush=True)
        # It may take seconds, and must hold up neither the start nor the end.
        threading.Thread(target=_say_unreached, args=(service,), daemon=True).start()
        await stopping
    else:
        starting.cancel()


def _say_unreached(service: Service) -> None:
    for found in unreached(service.settings, service.paging.engine.routing):
        log.warning("a receiver does not answer", detail=str(found))


def _announce(service: Service) -> None:
    print(f"warroom: listening at {service.url}", flush=True)
    for purpose, address in service.other_addresses.items():
        print(f"warroom: {purpose} at {address}", flush=True)


def _refuse_to_be_open(settings: Settings) -> None:
    outside = [
        address
        for address in (settings.listen, settings.otlp_http, settings.otlp_grpc)
        if address is not None and not address.loopback
    ]
    if not outside or settings.behind_proxy:
        return
    auth = settings.file.auth
    if auth.tls_cert_file and auth.tls_key_file:
        return
    raise WarroomError(
        f"{outside[0]} is not a loopback address, and neither TLS nor a proxy is configured",
        hint="set auth.tls_cert_file and auth.tls_key_file, or give --behind-proxy when a proxy "
        "in front does TLS and authentication",
    )

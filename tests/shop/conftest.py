"""The real shop: in this process for its views, and as processes for what it sends."""

from __future__ import annotations

import http.server
import importlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import httpx
import pytest
from typing_extensions import override

from warroom.demo.plan import ROOT, SHOP_DIR
from warroom.demo.processes import Children

TOKEN = "test-token"
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(ask: Callable[[], T], deadline_s: float = 30.0) -> T:
    end = time.monotonic() + deadline_s
    while not (answer := ask()):
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        time.sleep(0.02)
    return answer


@dataclass
class Capture:
    """Bodies that were posted, by path."""

    url: str
    bodies: dict[str, list[bytes]] = field(default_factory=dict)


@pytest.fixture(scope="session")
def capture() -> Iterator[Capture]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            caught.bodies.setdefault(self.path, []).append(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    caught = Capture(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield caught
    server.shutdown()
    server.server_close()


@dataclass
class Running:
    """The shop as processes, with its inventory."""

    url: str
    inventory_url: str
    children: Children


@pytest.fixture(scope="session")
def running_shop(tmp_path_factory: pytest.TempPathFactory, capture: Capture) -> Iterator[Running]:
    data = tmp_path_factory.mktemp("shop")
    ports = {"inventory": free_port(), "shop": free_port()}
    environment = {
        "PYTHONPATH": f"{ROOT}:{SHOP_DIR}",
        "NO_PROXY": "127.0.0.1",
        "SHOP_DATA_DIR": str(data),
        "SHOP_WARROOM_URL": capture.url,
        "SHOP_INVENTORY_URL": f"http://127.0.0.1:{ports['inventory']}",
        "SHOP_OPS_TOKEN": TOKEN,
    }
    with Children(data / "logs") as children:
        for service, port in ports.items():
            command = [str(SHOP_DIR / "serve.py"), service, "--port", str(port)]
            children.start(service, command, environment)
        urls = {service: f"http://127.0.0.1:{port}" for service, port in ports.items()}
        for url in urls.values():
            eventually(partial(_answers, children, url))
        yield Running(urls["shop"], urls["inventory"], children)


def _answers(children: Children, url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).is_success
    except httpx.HTTPError:
        children.check()
        return False


@pytest.fixture(scope="session")
def django_shop(tmp_path_factory: pytest.TempPathFactory, running_shop: Running) -> Iterator[None]:
    """Django in this process, on a database of its own, with the real inventory beside it."""
    data = tmp_path_factory.mktemp("django")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SHOP_DIR))
        patch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
        patch.setenv("SHOP_DATABASE", str(data / "shop.sqlite3"))
        patch.setenv("SHOP_INVENTORY_URL", running_shop.inventory_url)
        patch.setenv("SHOP_OPS_TOKEN", TOKEN)
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        importlib.import_module("shop.seed").seed()
        yield
        from django.db import connections

        connections.close_all()
        local = sys.modules["shop.inventory_client"]._local
        if hasattr(local, "session"):
            local.session.close()

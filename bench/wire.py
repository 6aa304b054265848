"""Sending prepared requests over many connections, cheaply: the sender shares the machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence

from bench.server import ANSWER_S, BenchFailed

_RETRY_S = 0.05
_MOST_RETRIES = 600
_RECEIVE = 65_536


def post(path: str, body: bytes, content_type: str, encoding: str = "") -> bytes:
    """A whole HTTP/1.1 request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
    ]
    if encoding:
        lines.append(f"Content-Encoding: {encoding}")
    if content_type == "application/x-protobuf" and encoding == "snappy":
        lines.append("X-Prometheus-Remote-Write-Version: 0.1.0")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Sender:
    """One keep-alive connection. Retries a 429, as every real sender does."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.refused = 0

    def send(self, request: bytes) -> None:
        """Send, and wait for the acknowledgement.

        Raises:
            BenchFailed: Another answer than 2xx or 429.
        """
        for _ in range(_MOST_RETRIES):
            self._socket.sendall(request)
            status, text = self._answer()
            if 200 <= status < 300:
                return
            if status != 429:
                raise BenchFailed(f"the server answered {status}: {text[:300]!r}")
            self.refused += 1
            time.sleep(_RETRY_S)
        raise BenchFailed(f"the server answered 429 {_MOST_RETRIES} times to one request")

    def _answer(self) -> tuple[int, bytes]:
        status, _, body = self._whole_answer()
        return status, body

    def _whole_answer(self) -> tuple[int, bytes, bytes]:
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._more()
        head, _, body = got.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(body) < length:
            body += self._more()
        return status, head, body

    def _more(self) -> bytes:
        more = self._socket.recv(_RECEIVE)
        if not more:
            raise BenchFailed("the server closed the connection")
        return more

    def close(self) -> None:
        self._socket.close()


def send_all(senders: Sequence[Sender], requests: Sequence[Sequence[bytes]]) -> float:
    """Send each connection's requests in order, all connections at once; the seconds it took.

    Raises:
        BenchFailed: One of them was refused.
    """
    errors: list[Exception] = []

    def work(sender: Sender, mine: Sequence[bytes]) -> None:
        try:
            for request in mine:
                sender.send(request)
        except (BenchFailed, OSError) as exc:
            errors.append(exc)

    threads = [
        threading.Thread(target=work, args=pair, daemon=True)
        for pair in zip(senders, requests, strict=True)
    ]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - started
    if errors:
        raise BenchFailed(str(errors[0])) from errors[0]
    return took_s

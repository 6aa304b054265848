"""A loopback server that speaks MySQL's protocol and answers what it is told to.

No MySQL is in Debian's archive: where its answers differ from MariaDB's, the tests ask this one.
It takes any account, and knows the text protocol of version 4.1 alone.
"""

from __future__ import annotations

import contextlib
import re
import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import override

# 4.1, transactions, secure connection, plug-in authentication.
CAPABILITIES = 0x0000_0200 | 0x0000_2000 | 0x0000_8000 | 0x0008_0000
AUTOCOMMIT = b"\x02\x00"
END = b"\xfe\x00\x00" + AUTOCOMMIT
DONE = b"\x00\x00\x00" + AUTOCOMMIT + b"\x00\x00"
QUERY, QUIT = 3, 1


@dataclass(frozen=True)
class SqlError:
    """An error packet."""

    code: int
    message: str


Rows = Sequence[Mapping[str, str | None]]


class MysqlProtocolServer(socketserver.ThreadingTCPServer):
    """`answers`: pattern of a statement -> rows or an error; the first that matches counts."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answers: Mapping[str, Rows | SqlError]) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.answers = dict(answers)
        self.asked: list[str] = []
        # Connections that said goodbye, and that just went away.
        self.left, self.aborted = 0, 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def reply(self, statement: str) -> Rows | SqlError:
        self.asked.append(statement)
        for pattern, answer in self.answers.items():
            if re.search(pattern, statement):
                return answer
        return SqlError(1064, f"You have an error in your SQL syntax near '{statement[:40]}'")


@contextlib.contextmanager
def mysql_server(answers: Mapping[str, Rows | SqlError]) -> Iterator[MysqlProtocolServer]:
    server = MysqlProtocolServer(answers)
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Session(socketserver.StreamRequestHandler):
    @override
    def handle(self) -> None:
        assert isinstance(self.server, MysqlProtocolServer)
        try:
            self._talk(self.server)
            self.server.left += 1
        except (OSError, EOFError):
            self.server.aborted += 1

    def _talk(self, server: MysqlProtocolServer) -> None:
        self._send(0, [_greeting()])
        self._receive()
        self._send(2, [DONE])
        while (packet := self._receive())[0] != QUIT:
            if packet[0] != QUERY:
                self._send(1, [DONE])
                continue
            answer = server.reply(packet[1:].decode())
            self._send(1, list(_packets(answer)))

    def _receive(self) -> bytes:
        head = self.rfile.read(4)
        if len(head) < 4:
            raise EOFError
        return self.rfile.read(int.from_bytes(head[:3], "little"))

    def _send(self, number: int, packets: Sequence[bytes]) -> None:
        for place, packet in enumerate(packets):
            head = len(packet).to_bytes(3, "little") + bytes([(number + place) % 256])
            self.wfile.write(head + packet)


def _greeting() -> bytes:
    low, high = CAPABILITIES & 0xFFFF, CAPABILITIES >> 16
    return b"".join(
        [
            b"\x0a8.4.3\x00",
            struct.pack("<I", 7),
            b"12345678\x00",
            struct.pack("<HB2sHB", low, 45, AUTOCOMMIT, high, 21),
            bytes(10),
            b"901234567890\x00",
            b"mysql_native_password\x00",
        ]
    )


def _packets(answer: Rows | SqlError) -> Iterator[bytes]:
    if isinstance(answer, SqlError):
        yield b"\xff" + struct.pack("<H", answer.code) + b"#HY000" + answer.message.encode()
        return
    if not answer:
        yield DONE
        return
    names = list(answer[0])
    yield _number(len(names))
    for name in names:
        nothing = _text("") * 3
        rest = b"\x0c" + struct.pack("<HIBHB2x", 45, 1024, 0xFD, 0, 0)
        yield _text("def") + nothing + _text(name) + _text(name) + rest
    yield END
    for row in answer:
        yield b"".join(b"\xfb" if value is None else _text(value) for value in row.values())
    yield END


def _text(value: Any) -> bytes:
    encoded = str(value).encode()
    return _number(len(encoded)) + encoded


def _number(value: int) -> bytes:
    return bytes([value]) if value < 251 else b"\xfc" + struct.pack("<H", value)

"""An SMTP server on loopback: takes mail, or refuses it as it is told."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage


@dataclass
class SmtpDouble:
    """`says` are answers to commands (`MAIL`, `RCPT`, `DATA`, `AUTH`, `.`) other than the usual."""

    port: int = 0
    says: dict[str, str] = field(default_factory=dict)
    extensions: tuple[str, ...] = ("AUTH PLAIN", "8BITMIME")
    logins: list[str] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(text: str) -> None:
            writer.write(f"{text}\r\n".encode())
            await writer.drain()

        await say("220 double")
        while line := (await reader.readline()).decode().strip():
            word = line.split(" ")[0].upper()
            if word == "DATA" and word not in self.says:
                await say("354 go on")
                await say(self.says.get(".", await self._mail(reader)))
            elif word in {"EHLO", "HELO"}:
                names = ["double", *self.extensions]
                told = [f"250-{name}" for name in names[:-1]]
                await say("\r\n".join([*told, f"250 {names[-1]}"]))
            elif word == "QUIT":
                await say("221 bye")
                break
            else:
                self._note(word, line)
                usual = {"AUTH": "235 ok"}.get(word, "250 ok")
                await say(self.says.get(word, usual))
        writer.close()

    def _note(self, word: str, line: str) -> None:
        if word == "AUTH":
            self.logins.append(base64.b64decode(line.split(" ")[2]).decode())
        if word == "RCPT":
            self.recipients.append(line.split("<")[1].split(">", maxsplit=1)[0])

    async def _mail(self, reader: asyncio.StreamReader) -> str:
        data = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
        self.mails.append(email.message_from_bytes(data, policy=email.policy.default))
        return "250 queued"


@asynccontextmanager
async def smtp_double() -> AsyncIterator[SmtpDouble]:
    """The double, listening on a free port of loopback."""
    double = SmtpDouble()
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double.port = server.sockets[0].getsockname()[1]
    try:
        yield double
    finally:
        server.close()
        await server.wait_closed()

"""OTLP traces: spans a CPU-second from the socket to the finding. No peer on a Debian machine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import orjson

from bench import statements, trace_stages
from bench.server import BenchFailed, Server
from bench.setup import Setup
from bench.shop_traces import BODY_SPANS, Bodies, bodies
from bench.table import OURS, Row, Table
from bench.wire import Sender, send_all

_CONNECTIONS = 4
_KIND = "n_plus_one_query"
_FOUND_S = 60.0


@dataclass(frozen=True, slots=True)
class _Took:
    """Seconds of one round; the server's CPU until the last answer, and with the judging."""

    wall_s: float
    intake_cpu_s: float
    cpu_s: float


def run(setup: Setup) -> list[Table]:
    """Rounds of spans, each followed by the ticks that judge them."""
    sizes = setup.sizes
    setup.say("traces: making spans")
    rounds = [bodies(sizes.spans, seed) for seed in range(sizes.rounds + 1)]
    with setup.server(setup.ours, "traces") as server:
        senders = [Sender(server.port) for _ in range(_CONNECTIONS)]
        try:
            idle_s = _idle_s(setup, server)
            setup.say("traces: sending")
            measured = [_round(setup, server, senders, part) for part in rounds]
        finally:
            for sender in senders:
                sender.close()
        findings = _findings(server)
    timed = list(zip(rounds, measured, strict=True))[1:]
    intake = median(part.spans / max(took.intake_cpu_s, 0.01) for part, took in timed)
    whole = median(part.spans / max(took.cpu_s, 0.01) for part, took in timed)
    judging = median(part.spans / max(took.cpu_s - idle_s, 0.01) for part, took in timed)
    wall = median(part.spans / took.wall_s for part, took in timed)
    rows = [
        Row("durable, CPU", "spans/CPU s", "more", {OURS: intake}),
        Row("durable and judged, CPU", "spans/CPU s", "more", {OURS: whole}),
        Row("the same, less the idle service", "spans/CPU s", "more", {OURS: judging}),
        Row("durable, wall", "spans/s", "more", {OURS: wall}),
        Row("open findings afterwards", "findings", "more", {OURS: float(findings)}),
        Row("known statements", "normalised/CPU s", "more", {OURS: statements.repeats_per_s()}),
        Row("kept of 50,000 statements", "statements", "less", {OURS: statements.remembered()}),
        *trace_stages.rows(setup.directory / "stages", sizes.spans, sizes.rounds),
    ]
    notes = [
        f"OTLP/HTTP protobuf, {BODY_SPANS} spans a body or a few more, {_CONNECTIONS} connections,"
        f" {rounds[0].spans:,} spans a round, medians of {sizes.rounds} rounds; every tenth"
        " request holds an N+1.",
        f"Judged: with the ticks of the {sizes.detect_s:g} s after the last answer, what the idle"
        f" service uses in that time ({idle_s:.2f} CPU s before the first round) included.",
        "Stages: the same bodies in this process, one stage after the other, the garbage collector"
        " set as the service sets it at its start; detection is one tick of every detector over a"
        " store without series; the flush is that of closing the store.",
    ]
    return [Table("traces", "OTLP traces", rows, notes)]


def _round(setup: Setup, server: Server, senders: list[Sender], part: Bodies) -> _Took:
    before_s = server.cpu_s()
    shares = [part.requests[place :: len(senders)] for place in range(len(senders))]
    wall_s = send_all(senders, shares)
    intake_s = server.cpu_s() - before_s
    time.sleep(setup.sizes.detect_s)
    return _Took(wall_s, intake_s, server.cpu_s() - before_s)


def _idle_s(setup: Setup, server: Server) -> float:
    """CPU seconds that the service uses for itself, in the time that a round waits for it."""
    time.sleep(setup.sizes.settle_s)
    before_s = server.cpu_s()
    time.sleep(setup.sizes.detect_s / 2)
    return 2 * (server.cpu_s() - before_s)


def _findings(server: Server) -> int:
    """How many were found; what was sent cannot pass unnoticed, however busy the machine."""
    deadline = time.monotonic() + _FOUND_S
    while time.monotonic() < deadline:
        status, body = server.get("/api/warroom/v1/findings")
        if status != 200:
            raise BenchFailed(f"/findings answered {status}: {body[:300]!r}")
        found = orjson.loads(body)["findings"]
        if any(one["kind"] == _KIND for one in found):
            return len(found)
        time.sleep(0.5)
    raise BenchFailed(f"no {_KIND} was found within {_FOUND_S:.0f} s")

"""The scripted sale: healthy, three faults one after the other, recovery."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import httpx

from warroom.demo.load_test import LEAST_S, Driven, record
from warroom.demo.processes import Child, Children
from warroom.demo.verdict import Fault, Played, Verdict, judge
from warroom.demo.witness import PageEvent, Witness

HEALTHY_S = 60.0
PAUSE_S = 15.0
RECOVERY_S = 240.0
LOOK_EVERY_S = 0.5
MULTIPLES = (1.0, 2.0, 3.0)
STAGE_S = 40.0

FAULTS = (
    Fault(
        switch="n_plus_one",
        title="release 2026.11.27-2: the product list asks for each product's brand on its own",
        on_s=60,
        pages=r"^n_plus_one_query$",
        shown=r"^n_plus_one_query$",
        within_s=10,
        deploy="2026.11.27-2",
    ),
    Fault(
        switch="cache_keys",
        title="cache keys stop matching: nothing that was cached is found again",
        on_s=45,
        pages=r"^(hit_rate_drop|cache_stampede)$",
        shown=r"^hit_rate_drop$",
        within_s=10,
    ),
    Fault(
        switch="payment_failures",
        title="the payment provider answers with errors: orders go missing",
        on_s=75,
        least_s=45,
        pages=r"^(ErrorBudgetBurn|CheckoutErrorBudgetBurn|OrderRateDrop|PaymentSuccessDrop|error_regression)$",
        shown=r"(ErrorBudgetBurn|OrderRateDrop|PaymentSuccessDrop)$",
        within_s=30,
    ),
)


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything the story needs: the witness, the shop's switches, the children, the screen."""

    witness: Witness
    shop: httpx.Client
    children: Children
    say: Callable[[str], None]


def play(stage: Stage, speed: float = 1.0) -> Verdict:
    """Play the story and judge it. `speed` shortens it; each fault stays long enough to page.

    Raises:
        ProcessFailed: A child ended.
        httpx.HTTPError: The shop or the PagerDuty double does not answer.
    """
    begun = time.monotonic()
    played: list[Played] = []
    _say(stage, begun, "the sale is on, everything is healthy")
    healthy_s = time.time()
    _watch(stage, begun, HEALTHY_S / speed)
    if HEALTHY_S / speed >= LEAST_S:
        usual = Driven(1.0, healthy_s, time.time())
        record(stage.witness.warroom, "the usual visitors", (usual,))
    for fault in FAULTS:
        played.append(_break(stage, begun, fault, speed))
        _watch(stage, begun, PAUSE_S / speed)
    _say(stage, begun, "recovery: waiting until every incident is resolved")
    deadline = time.monotonic() + RECOVERY_S
    _watch(stage, begun, LOOK_EVERY_S)
    while stage.witness.open_keys() and time.monotonic() < deadline:
        _watch(stage, begun, 1.0)
    # A flapping alert would page again just after its resolve.
    _watch(stage, begun, PAUSE_S / speed)
    witness = stage.witness
    return judge(played, witness.events, witness.first_seen, witness.incidents)


def drive(stage: Stage, more_visitors: Callable[[float], Child]) -> None:
    """After the story: the usual visitors, twice and three times as many, and how the SLOs held.

    Raises:
        ProcessFailed: A child ended.
        httpx.HTTPError: The shop or Warroom does not answer.
    """
    begun = time.monotonic()
    driven: list[Driven] = []
    for multiple in MULTIPLES:
        _say(stage, begun, f"load test: {multiple:g}× the usual visitors")
        from_s = time.time()
        more = more_visitors(multiple - 1) if multiple > 1 else None
        _watch(stage, begun, STAGE_S)
        driven.append(Driven(multiple, from_s, time.time()))
        if more is not None:
            stage.children.end(more)
    record(stage.witness.warroom, "three times the usual visitors", driven)
    _say(stage, begun, "load test: over, the page Readiness shows it")


def _break(stage: Stage, begun: float, fault: Fault, speed: float) -> Played:
    _say(stage, begun, f"FAULT {fault.title}")
    if fault.deploy:
        body = {"kind": "deploy", "title": f"shop {fault.deploy}", "service": "shop",
                "version": fault.deploy}  # fmt: skip
        stage.witness.warroom.post("/api/warroom/v1/annotations", json=body).raise_for_status()
    _switch(stage, {fault.switch: True})
    on_at = time.time()
    _watch(stage, begun, max(fault.on_s / speed, fault.least_s))
    _switch(stage, {fault.switch: False})
    _say(stage, begun, f"fixed: {fault.switch}")
    return Played(fault, on_at, time.time())


def _switch(stage: Stage, changes: dict[str, bool]) -> None:
    stage.shop.post("/ops/faults", json=changes).raise_for_status()


def _watch(stage: Stage, begun: float, duration_s: float) -> None:
    deadline = time.monotonic() + duration_s
    while True:
        stage.children.check()
        for event in stage.witness.look():
            _say(stage, begun, _told(event))
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, LOOK_EVERY_S))


def _told(event: PageEvent) -> str:
    what = {"trigger": "PAGE", "resolve": "resolved", "acknowledge": "acknowledged"}[event.action]
    return f"  {what}: {event.summary or event.dedup_key}"


def _say(stage: Stage, begun: float, text: str) -> None:
    passed = int(time.monotonic() - begun)
    clock = datetime.now().astimezone().strftime("%H:%M:%S")
    stage.say(f"{clock}  {passed // 60:02d}:{passed % 60:02d}  {text}")

"""`warroom demo`: a shop, its visitors, a PagerDuty double and Warroom, and a story to watch."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx

from store.errors import WarroomError
from warroom.demo.history import Traffic, backfill, minutes_of_sale
from warroom.demo.plan import STORE_TIME_ZONE, Plan, Ports, address, sales
from warroom.demo.processes import Children, port_free, signals_as_interrupt, wait_until
from warroom.demo.story import Stage, drive, play
from warroom.demo.verdict import table
from warroom.demo.witness import Witness

READY_S = 120.0
SERVICE_S = 30.0
_BROWSERS = ("xdg-open", "chromium", "google-chrome", "firefox")
# From the first visitor to the first order: until then history stands in.
FIRST_ORDER_S = 4.0


class PortBusy(WarroomError):
    """A port of the demo is taken."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `warroom demo`."""
    ports = Ports()
    parser.add_argument("--port", type=int, default=ports.warroom, help="Warroom's (8600)")
    parser.add_argument("--shop-port", type=int, default=ports.shop)
    parser.add_argument("--inventory-port", type=int, default=ports.inventory)
    parser.add_argument("--pagerduty-port", type=int, default=ports.pagerduty)
    parser.add_argument("--data-dir", help="default data/demo/<time>, a new one each time")
    parser.add_argument("--speed", type=float, default=1.0, help="shortens the phases of the story")
    parser.add_argument("--scale", type=float, default=1.0, help="times 60 orders a minute")
    parser.add_argument("--exit-when-done", action="store_true", help="end after the story")
    parser.add_argument("--json", metavar="FILE", help="write the story's result there")
    parser.add_argument("--no-story", action="store_true", help="a healthy sale until Ctrl-C")


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 when the story kept every promise, 1 when not.

    Raises:
        WarroomError: A port is taken, or a part did not start or ended.
    """
    if not 0.1 <= arguments.speed <= 100 or not 0.1 <= arguments.scale <= 5:
        raise WarroomError("--speed is 0.1 to 100, --scale 0.1 to 5")
    plan = _plan(arguments)
    _check_ports(plan.ports)
    plan.write_config()
    print(f"warroom demo: everything is kept in {plan.data_dir}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(signals_as_interrupt())
        children = stack.enter_context(Children(plan.data_dir / "logs"))
        try:
            return _run(plan, arguments, children, stack)
        except KeyboardInterrupt:
            print("\nwarroom demo: stopping")
            return 0 if not arguments.exit_when_done else 130
        except TimeoutError as exc:
            raise WarroomError(
                f"a part of the demo did not start: {exc}", hint=f"see {plan.data_dir / 'logs'}"
            ) from exc
        except httpx.HTTPError as exc:
            raise WarroomError(
                f"a part of the demo stopped answering: {exc}",
                hint=f"see {plan.data_dir / 'logs'}",
            ) from exc


def _plan(arguments: argparse.Namespace) -> Plan:
    started = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    ports = Ports(
        warroom=arguments.port,
        shop=arguments.shop_port,
        inventory=arguments.inventory_port,
        pagerduty=arguments.pagerduty_port,
    )
    return Plan(
        data_dir=Path(arguments.data_dir or f"data/demo/{started}").resolve(),
        ports=ports,
        ops_token=secrets.token_urlsafe(24),
        today=datetime.now(ZoneInfo(STORE_TIME_ZONE)).date(),
        traffic_scale=arguments.scale,
    )


def _check_ports(ports: Ports) -> None:
    for flag, port in ports.flags():
        if not port_free(port):
            raise PortBusy(
                f"port {port} is taken", hint=f"end what listens there, or give {flag} PORT"
            )


def _run(
    plan: Plan, arguments: argparse.Namespace, children: Children, stack: contextlib.ExitStack
) -> int:
    client = {
        port: stack.enter_context(httpx.Client(base_url=address(port), timeout=30, trust_env=False))
        for _, port in plan.ports.flags()
    }
    warroom, pagerduty = client[plan.ports.warroom], client[plan.ports.pagerduty]
    shop = client[plan.ports.shop]
    shop.headers["Authorization"] = f"Bearer {plan.ops_token}"
    _start_all(plan, children, client)
    if arguments.no_story:
        return _stay(children)
    stage = Stage(Witness(warroom, pagerduty), shop, children, lambda text: print(text, flush=True))
    verdict = play(stage, arguments.speed)
    print("\n" + "\n".join(table(verdict)), flush=True)
    if arguments.json:
        Path(arguments.json).write_text(verdict.as_json(), encoding="utf-8")
    if not arguments.exit_when_done:
        print("\nThe sale goes on until Ctrl-C.", flush=True)
        environment = plan.environment()
        drive(
            stage,
            lambda more: children.start("more-traffic", plan.traffic_command(more), environment),
        )
        return _stay(children)
    return 0 if verdict.ok else 1


def _start_all(plan: Plan, children: Children, client: dict[int, httpx.Client]) -> None:
    environment, ports = plan.environment(), plan.ports
    warroom = client[ports.warroom]
    children.start("pagerduty", plan.pagerduty_command(), environment)
    children.start("warroom", plan.warroom_command(), environment)
    # The database files are made meanwhile; nothing of it touches Warroom.
    children.start("inventory", plan.service_command("inventory"), environment)
    _step("Warroom", children, warroom, "/-/ready", READY_S)
    _step("PagerDuty double", children, client[ports.pagerduty], "/healthz", SERVICE_S)
    _step("inventory", children, client[ports.inventory], "/healthz", SERVICE_S)
    children.start("shop", plan.service_command("shop"), environment)
    _step("shop", children, client[ports.shop], "/healthz", SERVICE_S)
    children.start("traffic", plan.traffic_command(), environment)
    live_s = time.time() + FIRST_ORDER_S
    _tell_address(ports.warroom)
    time.sleep(FIRST_ORDER_S)
    begun = time.monotonic()
    traffic = Traffic(orders_per_minute=60.0 * plan.traffic_scale)
    last_sale, _ = sales(plan.today)
    sale = minutes_of_sale(live_s, last_sale.first, ZoneInfo(STORE_TIME_ZONE))
    count = backfill(warroom, live_s, traffic, sale, _progress)
    _passing("")
    print(f"  history          {count} events in {time.monotonic() - begun:.1f} s", flush=True)
    children.check()


def _tell_address(port: int) -> None:
    print(f"\n  open  {address(port)}/\n")
    if not any(shutil.which(name) for name in _BROWSERS):
        print(f"  no browser on this machine? ssh -L {port}:127.0.0.1:{port} brings it to yours\n")
    print("  the board is live; last weeks' orders follow, to compare with", flush=True)


def _step(
    name: str, children: Children, client: httpx.Client, path: str, deadline_s: float
) -> None:
    _passing(f"  {name:<16} …")
    try:
        took = wait_until(deadline_s, children, _answers(client, path))
    finally:
        _passing("")
    print(f"  {name:<16} ready after {took:.1f} s", flush=True)


def _answers(client: httpx.Client, path: str) -> Iterator[bool]:
    while True:
        try:
            yield client.get(path, timeout=2).is_success
        except httpx.HTTPError:
            yield False


def _progress(done: int, total: int) -> None:
    _passing(f"  history          {done * 100 // total} %")


def _passing(text: str) -> None:
    """A line that the next one replaces: only on a terminal, a file would keep every step."""
    if sys.stdout.isatty():
        print(f"\r{text}", end="", flush=True)


def _stay(children: Children) -> int:
    while True:
        children.check()
        time.sleep(0.5)

"""Visitors of the demo shop: browse, fill a cart, check out, give up now and then.

`python traffic.py --shop http://127.0.0.1:8601` makes about 60 orders and 750 requests a minute
until SIGTERM, `--duration` or Ctrl-C. It prints what it did as one JSON line at the end.
"""

import argparse
import asyncio
import json
import math
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

ORDERS_PER_MINUTE = 60.0
BUYING_SHARE = 0.62
# What a healthy checkout loses at each step; a quarter in all.
GIVE_UP = {"shipping": 0.10, "payment": 0.09, "purchase": 0.085}
MAX_SESSIONS = 200
PRODUCTS = 480
CATEGORIES = ["", "", "", "audio", "bikes", "books", "coffee", "games", "garden", "kitchen",
              "lamps", "outdoor", "shoes", "toys", "watches"]  # fmt: skip
AGENTS = {
    "mobile": "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Mobile/15E148",
    "desktop": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/150.0",
}
CHANNELS = ["direct", "email", "search", "social", "affiliate"]
COUNTRIES = ["DE", "DE", "DE", "AT", "CH", "NL", "FR", "PL"]


def completed_share():
    """The share of healthy checkouts that end in an order."""
    return math.prod(1 - share for share in GIVE_UP.values())


def curve(elapsed_s):
    """The sale day's shape, compressed: a slow wave of ten minutes around one."""
    return 1 + 0.08 * math.sin(2 * math.pi * elapsed_s / 600)


@dataclass
class Outcome:
    """What happened so far."""

    requests: Counter = field(default_factory=Counter)
    statuses: Counter = field(default_factory=Counter)
    checkouts: int = 0
    orders: int = 0
    failed_payments: int = 0
    errors: int = 0
    skipped: int = 0

    def as_dict(self):
        """For JSON."""
        return {
            "requests": sum(self.requests.values()),
            "by_step": dict(self.requests),
            "statuses": {str(key): value for key, value in self.statuses.items()},
            "checkouts": self.checkouts,
            "orders": self.orders,
            "failed_payments": self.failed_payments,
            "errors": self.errors,
            "skipped": self.skipped,
        }


class GaveUp(Exception):
    """The visitor left."""


class Visitor:
    """One session over HTTP."""

    def __init__(self, client, draw, outcome, pace_s):
        self._client = client
        self._draw = draw
        self._outcome = outcome
        self._pace_s = pace_s
        self._device = "mobile" if draw.random() < 0.62 else "desktop"
        self._headers = {"User-Agent": AGENTS[self._device]}
        self._cookies = {}

    async def shop(self):
        """Browse, and buy if in the mood."""
        draw = self._draw
        try:
            await self._browse()
            if draw.random() < BUYING_SHARE:
                await self._buy()
        except GaveUp:
            pass
        except httpx.HTTPError:
            self._outcome.errors += 1

    async def _browse(self):
        draw = self._draw
        category = draw.choice(CATEGORIES)
        query = {"category": category} if category else {}
        query["utm_medium"] = draw.choice(CHANNELS)
        await self._send("list", "GET", "/products/", params=query)
        if draw.random() < 0.4:
            await self._send("list", "GET", "/products/", params={"page": draw.randint(2, 10)})
        if draw.random() < 0.35:
            await self._beacon("/products/")
        await self._product()
        if draw.random() < 0.3:
            await self._product()

    async def _product(self):
        # The first hundred are what everybody looks at.
        limit = 100 if self._draw.random() < 0.8 else PRODUCTS
        self._seen = self._draw.randint(1, limit)
        await self._send("product", "GET", f"/products/{self._seen}/")

    async def _buy(self):
        draw = self._draw
        for _ in range(draw.choice([1, 1, 2])):
            data = {"product": str(draw.randint(1, 100)), "quantity": str(draw.randint(1, 3))}
            await self._send("add", "POST", "/cart/add/", data=data)
        if draw.random() < 0.5:
            await self._send("cart", "GET", "/cart/")
        await self._send("begin", "POST", "/checkout/")
        self._outcome.checkouts += 1
        await self._step("shipping", {"country": draw.choice(COUNTRIES)})
        await self._step("payment", {"method": draw.choice(["card", "card", "invoice"])})
        answer = await self._step("purchase", {})
        if answer.status_code == 302:
            self._outcome.orders += 1
            return
        self._outcome.failed_payments += 1
        if draw.random() < 0.5:  # tries once more
            answer = await self._send("purchase", "POST", "/checkout/purchase/")
            self._outcome.orders += answer.status_code == 302

    async def _step(self, step, data):
        if self._draw.random() < GIVE_UP[step]:
            raise GaveUp
        answer = await self._send(step, "POST", f"/checkout/{step}/", data=data)
        if answer.status_code >= 400 and step != "purchase":
            raise GaveUp
        return answer

    async def _send(self, step, method, path, **more):
        await asyncio.sleep(self._draw.expovariate(1) * self._pace_s)
        headers = dict(self._headers)
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self._cookies.items())
        if method == "POST":
            headers["X-CSRFToken"] = self._cookies.get("csrftoken", "")
        answer = await self._client.request(method, path, headers=headers, **more)
        self._outcome.requests[step] += 1
        self._outcome.statuses[answer.status_code] += 1
        # The client is shared, so that connections are; each visitor keeps its own cookies.
        self._cookies.update(answer.cookies.items())
        self._client.cookies.clear()
        if answer.status_code >= 500 and step != "purchase":
            raise GaveUp
        return answer

    async def _beacon(self, page):
        draw = self._draw
        slow = 1.5 if self._device == "mobile" else 1.0
        vitals = {
            "TTFB": draw.lognormvariate(math.log(180 * slow), 0.4),
            "FCP": draw.lognormvariate(math.log(700 * slow), 0.3),
            "LCP": draw.lognormvariate(math.log(1_150 * slow), 0.3),
            "INP": draw.lognormvariate(math.log(70 * slow), 0.4),
            "CLS": draw.betavariate(1, 40),
        }
        run = f"v1-{draw.getrandbits(48):012x}"
        body = [
            {"name": name, "value": round(value, 4), "delta": round(value, 4),
             "id": f"{run}-{name}", "rating": "good", "navigationType": "navigate",
             "page": page, "device": self._device}
            for name, value in vitals.items()
        ]  # fmt: skip
        await self._send("beacon", "POST", "/rum", json=body)


async def run(options, stop, outcome):
    """Start visitors as the sale's curve says until `stop` is set or time is over."""
    draw = random.Random(options.seed)
    per_second = ORDERS_PER_MINUTE / 60 * options.scale / completed_share() / BUYING_SHARE
    begun = time.monotonic()
    limits = httpx.Limits(max_connections=32, max_keepalive_connections=8)
    sessions = set()
    async with httpx.AsyncClient(
        base_url=options.shop, timeout=15, limits=limits, trust_env=False
    ) as client:
        while not stop.is_set():
            elapsed = time.monotonic() - begun
            if options.duration and elapsed >= options.duration:
                break
            pause = draw.expovariate(per_second * curve(elapsed))
            try:
                await asyncio.wait_for(stop.wait(), pause)
                break
            except TimeoutError:
                pass
            if len(sessions) >= MAX_SESSIONS:
                outcome.skipped += 1
                continue
            visitor = Visitor(client, random.Random(draw.random()), outcome, options.pace)
            task = asyncio.create_task(visitor.shop())
            sessions.add(task)
            task.add_done_callback(sessions.discard)
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)


async def _main(options):
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    outcome = Outcome()
    begun = time.monotonic()
    await run(options, stop, outcome)
    print(json.dumps({"seconds": round(time.monotonic() - begun, 1), **outcome.as_dict()}))


def parse(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shop", default="http://127.0.0.1:8601")
    parser.add_argument("--scale", type=float, default=1.0, help="times 60 orders a minute")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--duration", type=float, default=0, help="seconds; 0 is for ever")
    parser.add_argument("--pace", type=float, default=0.5, help="mean seconds between clicks")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    asyncio.run(_main(parse()))

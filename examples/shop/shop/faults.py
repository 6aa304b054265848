"""Faults that can be switched on while the shop runs. Each is a mistake a release could bring."""

import threading

FAULTS = {
    "n_plus_one": "the product list asks for each product's brand on its own",
    "inventory_per_item": "the cart asks the inventory once for each item",
    "cache_keys": "cache keys carry the request's id, so nothing is ever found again",
    "slow_query": "the product search sorts a join of everything with everything",
    "payment_failures": "the payment provider answers with errors",
    "checkout_stall": "the checkout waits for seconds before it begins",
}


class WrongSwitch(Exception):
    """What was asked for is no change of the switches."""


class Switches:
    """Which faults are on. Safe to read from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on: frozenset[str] = frozenset()

    def on(self, fault: str) -> bool:
        """Whether a fault is on."""
        return fault in self._on

    def set(self, changes: object) -> dict[str, bool]:
        """Change some switches; the state of all afterwards.

        Raises:
            WrongSwitch: It is no object, a name is unknown or a value is no boolean.
        """
        if not isinstance(changes, dict):
            raise WrongSwitch("send an object of switches")
        for name, value in changes.items():
            if name not in FAULTS:
                raise WrongSwitch(f"unknown fault {name!r}; known: {', '.join(FAULTS)}")
            if not isinstance(value, bool):
                raise WrongSwitch(f"{name}: write true or false")
        with self._lock:
            on = {name for name in FAULTS if changes.get(name, name in self._on)}
            self._on = frozenset(on)
        return self.state()

    def state(self) -> dict[str, bool]:
        """Every switch."""
        return {name: name in self._on for name in FAULTS}


switches = Switches()

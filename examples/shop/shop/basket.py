"""The cart, kept in the signed session cookie."""

import uuid
from decimal import Decimal

from django.conf import settings

from collector.instrument.events import Money
from shop import inventory_client
from shop.faults import switches

MAX_ITEMS = 20


class Basket:
    """What a visitor wants to buy: product id to sku, name, price and quantity."""

    def __init__(self, session):
        self._session = session
        self.items = dict(session.get("items", {}))

    def add(self, product, quantity):
        """Put a product in, or more of it; the oldest falls out of a full cart."""
        key = str(product.pk)
        before = self.items.get(key, {}).get("quantity", 0)
        self.items[key] = {
            "sku": product.sku,
            "name": product.name,
            "price": str(product.price),
            "quantity": min(before + quantity, 99),
        }
        while len(self.items) > MAX_ITEMS:
            del self.items[next(iter(self.items))]
        self._session["items"] = self.items

    def empty(self):
        """Throw everything out, and end the checkout."""
        self.items = {}
        self._session["items"] = {}
        self._session.pop("checkout_id", None)

    @property
    def total(self):
        """What it costs."""
        prices = (Decimal(item["price"]) * item["quantity"] for item in self.items.values())
        return sum(prices, Decimal("0.00"))

    def money(self):
        """What it costs, with the currency."""
        return Money(self.total, settings.CURRENCY)

    def quantities(self):
        """Quantity by sku."""
        return {item["sku"]: item["quantity"] for item in self.items.values()}

    def lines_with_stock(self):
        """The items with what the inventory has of them."""
        skus = list(self.quantities())
        if switches.on("inventory_per_item"):
            stock = {}
            for sku in skus:
                stock.update(inventory_client.stock_of(sku))
        else:
            stock = inventory_client.stock(skus)
        return [{**item, "stock": stock.get(item["sku"], 0)} for item in self.items.values()]

    def begin_checkout(self):
        """A new checkout id, unless one is open."""
        if "checkout_id" not in self._session:
            self._session["checkout_id"] = f"c-{uuid.uuid4().hex[:16]}"
        return self._session["checkout_id"]

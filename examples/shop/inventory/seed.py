"""Stock for every product of the shop's seed."""

from inventory.models import Stock

PRODUCTS = 480


def seed():
    """Fill an empty inventory; a filled one is left alone."""
    if not Stock.objects.exists():
        Stock.objects.bulk_create(
            Stock(sku=f"SKU-{number:05d}", available=10_000) for number in range(PRODUCTS)
        )

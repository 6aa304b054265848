"""A few hundred products, the same ones every time."""

import random
from decimal import Decimal

from django.db import transaction

from shop.models import Brand, Category, Product

PRODUCTS = 480
CATEGORIES = ["Audio", "Bikes", "Books", "Coffee", "Games", "Garden", "Kitchen", "Lamps",
              "Outdoor", "Shoes", "Toys", "Watches"]  # fmt: skip
BRANDS = ["Aster", "Birke", "Corvin", "Delft", "Elster", "Falk", "Graal", "Hanse", "Iris", "Jolle",
          "Kiefer", "Lumen", "Moor", "Nordlicht", "Oslo", "Pappel", "Quarz", "Reiher", "Sande",
          "Tarn"]  # fmt: skip
KINDS = ["Classic", "Mini", "Pro", "Travel", "Studio", "Family", "Sport", "Light"]


def seed():
    """Fill an empty shop; a filled one is left alone."""
    if Product.objects.exists():
        return
    draw = random.Random(20261127)
    with transaction.atomic():
        categories = [Category(name=name, slug=name.lower()) for name in CATEGORIES]
        Category.objects.bulk_create(categories)
        brands = [Brand(name=name, country=draw.choice(["DE", "NL", "NO"])) for name in BRANDS]
        Brand.objects.bulk_create(brands)
        Product.objects.bulk_create(_product(n, draw, categories, brands) for n in range(PRODUCTS))


def _product(number, draw, categories, brands):
    category, brand = draw.choice(categories), draw.choice(brands)
    return Product(
        name=f"{brand.name} {category.name} {draw.choice(KINDS)} {number}",
        sku=f"SKU-{number:05d}",
        price=Decimal(draw.randint(900, 14_900)) / 100,
        rating=round(draw.uniform(2.5, 5), 2),
        category=category,
        brand=brand,
    )

"""What the shop sells and has sold. Money is in EUR."""

import uuid

from django.db import models


class Category(models.Model):
    """A shelf of the shop."""

    name = models.CharField(max_length=80)
    slug = models.SlugField(unique=True)


class Brand(models.Model):
    """Who makes a product."""

    name = models.CharField(max_length=80)
    country = models.CharField(max_length=2)


class Product(models.Model):
    """One thing to buy."""

    name = models.CharField(max_length=120)
    sku = models.CharField(max_length=20, unique=True)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    rating = models.FloatField(default=0)
    category = models.ForeignKey(Category, on_delete=models.PROTECT)
    brand = models.ForeignKey(Brand, on_delete=models.PROTECT)


class Order(models.Model):
    """One paid order. The checkout's id makes it unique: a double click buys once."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    checkout_id = models.CharField(max_length=40, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    country = models.CharField(max_length=2)


class OrderLine(models.Model):
    """A product of an order at the price it was sold for."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=8, decimal_places=2)

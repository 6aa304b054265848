"""What is on the shelves."""

from django.db import models


class Stock(models.Model):
    """How many of a product there are."""

    sku = models.CharField(max_length=20, primary_key=True)
    available = models.IntegerField()

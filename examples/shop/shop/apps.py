"""The shop as a Django app."""

import time

from django.apps import AppConfig
from django.conf import settings
from django.db.backends.signals import connection_created


class ShopConfig(AppConfig):
    """Gives SQLite the round trip of a database across the network."""

    name = "shop"

    def ready(self) -> None:
        """Connect the signal where a round trip is asked for."""
        if settings.DATABASE_ROUND_TRIP_MS > 0:
            connection_created.connect(_add_round_trip, dispatch_uid="shop-round-trip")


def _add_round_trip(connection, **_kwargs) -> None:
    seconds = settings.DATABASE_ROUND_TRIP_MS / 1000
    # The trace callback runs inside execute(), so the query's span lasts as long as the query.
    connection.connection.set_trace_callback(lambda _sql: time.sleep(seconds))

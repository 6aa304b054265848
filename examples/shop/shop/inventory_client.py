"""The inventory service, over HTTP."""

import threading

import requests
from django.conf import settings

_TIMEOUT_S = 3
_local = threading.local()


class OutOfStock(Exception):
    """The inventory has not enough of a product."""


def stock(skus):
    """How many of each sku there are, asked in one call."""
    if not skus:
        return {}
    answer = _session().get(
        f"{settings.INVENTORY_URL}/stock/", params={"sku": sorted(skus)}, timeout=_TIMEOUT_S
    )
    answer.raise_for_status()
    return answer.json()["stock"]


def stock_of(sku):
    """How many of one sku there are."""
    answer = _session().get(f"{settings.INVENTORY_URL}/stock/{sku}/", timeout=_TIMEOUT_S)
    answer.raise_for_status()
    return answer.json()["stock"]


def reserve(quantities):
    """Take products out of the stock, all or none.

    Raises:
        OutOfStock: Some are missing.
    """
    answer = _session().post(
        f"{settings.INVENTORY_URL}/reserve/", json={"quantities": quantities}, timeout=_TIMEOUT_S
    )
    if answer.status_code == 409:
        raise OutOfStock(answer.json()["missing"])
    answer.raise_for_status()


def _session():
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
        _local.session.trust_env = False
    return _local.session

"""A stand-in for the payment provider."""

import time
import uuid

from shop.faults import switches

AUTHORISATION_S = 0.03


class PaymentFailed(Exception):
    """The provider did not authorise the payment."""


def authorise(_money):
    """Reserve the money; the provider's reference.

    Raises:
        PaymentFailed: The provider answered with an error.
    """
    time.sleep(AUTHORISATION_S)
    if switches.on("payment_failures"):
        raise PaymentFailed("provider_unavailable")
    return f"p-{uuid.uuid4().hex[:12]}"

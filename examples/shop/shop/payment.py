"""A stand-in for the payment provider."""

import time
import uuid

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from shop.faults import switches

AUTHORISATION_S = 0.03


class PaymentFailed(Exception):
    """The provider did not authorise the payment."""


def authorise(_money):
    """Reserve the money; the provider's reference.

    Raises:
        PaymentFailed: The provider answered with an error.
    """
    tracer = trace.get_tracer("shop.payment")
    attributes = {"http.request.method": "POST", "server.address": "pay.shop.example"}
    with tracer.start_as_current_span(
        "POST /authorisations", kind=SpanKind.CLIENT, attributes=attributes
    ) as span:
        time.sleep(AUTHORISATION_S)
        if switches.on("payment_failures"):
            span.set_attribute("http.response.status_code", 503)
            raise PaymentFailed("payment provider answered 503")
        span.set_attribute("http.response.status_code", 200)
    return f"p-{uuid.uuid4().hex[:12]}"

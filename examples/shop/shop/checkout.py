"""The checkout: begin, shipping, payment, purchase."""

import time
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.http import HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_http_methods, require_POST

from shop import inventory_client
from shop import payment as provider
from shop.basket import Basket
from shop.faults import switches
from shop.models import Order, OrderLine
from shop.telemetry import events, visit_of

STALL_S = 4.0
COUNTRIES = {"DE", "AT", "CH", "FR", "NL", "PL"}


@require_http_methods(["GET", "POST"])
@ensure_csrf_cookie
def begin(request):
    """Begin a checkout, or show the one that is open."""
    basket = Basket(request.session)
    if not basket.items:
        return redirect("cart")
    if request.method == "POST":
        if switches.on("checkout_stall"):
            time.sleep(STALL_S)
        basket.begin_checkout()
        events().track_checkout("begin_checkout", visit_of(request), basket.money())
        return HttpResponse(status=204)
    return render(request, "shop/checkout.html", {"lines": basket.items.values(), "basket": basket})


@require_POST
def shipping(request):
    """Where to send it."""
    basket = Basket(request.session)
    country = request.POST.get("country", "")
    if "checkout_id" not in request.session or not basket.items:
        return HttpResponseBadRequest("no checkout is open")
    if country not in COUNTRIES:
        return HttpResponseBadRequest("we do not ship there")
    request.session["country"] = country
    events().track_checkout("add_shipping_info", visit_of(request), basket.money())
    return HttpResponse(status=204)


@require_POST
def payment(request):
    """How it is paid."""
    basket = Basket(request.session)
    if "country" not in request.session or not basket.items:
        return HttpResponseBadRequest("say first where to send it")
    request.session["payment_method"] = request.POST.get("method", "card")[:20]
    events().track_checkout("add_payment_info", visit_of(request), basket.money())
    return HttpResponse(status=204)


@require_POST
def purchase(request):
    """Pay and order."""
    basket = Basket(request.session)
    checkout_id = request.session.get("checkout_id")
    if not (checkout_id and basket.items and "payment_method" in request.session):
        return HttpResponseBadRequest("the checkout is not complete")
    visit, money = visit_of(request), basket.money()
    try:
        provider.authorise(money)
        inventory_client.reserve(basket.quantities())
        order = _store(checkout_id, request.session["country"], basket)
    except provider.PaymentFailed as exc:
        events().track_checkout("payment_failed", visit, money, str(exc))
        return HttpResponse(
            "The payment provider is not reachable. You were not charged.", status=502
        )
    except inventory_client.OutOfStock:
        return HttpResponse("Something in your cart was just sold out.", status=409)
    except IntegrityError:
        return redirect("order", order_id=Order.objects.get(checkout_id=checkout_id).pk)
    events().track_order(
        str(order.pk), visit, money,
        [{"item_id": sku, "quantity": quantity} for sku, quantity in basket.quantities().items()],
    )  # fmt: skip
    basket.empty()
    return redirect("order", order_id=order.pk)


def _store(checkout_id, country, basket):
    with transaction.atomic():
        order = Order.objects.create(checkout_id=checkout_id, total=basket.total, country=country)
        OrderLine.objects.bulk_create(
            OrderLine(
                order=order,
                product_id=int(product_id),
                quantity=item["quantity"],
                price=Decimal(item["price"]),
            )
            for product_id, item in basket.items.items()
        )
    return order

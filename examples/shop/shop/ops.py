"""What operators use: fault switches, metrics, beacons, health."""

import hmac
import json

from django.conf import settings
from django.http import HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shop.cache import registry
from shop.faults import FAULTS, WrongSwitch, switches
from shop.telemetry import telemetry

MAX_BEACON_BYTES = 65_536
LOOPBACK = {"127.0.0.1", "::1"}


@csrf_exempt
@require_http_methods(["GET", "POST"])
def faults(request):
    """Read or change the fault switches: `{"n_plus_one": true}`. Loopback and token only."""
    if request.META.get("REMOTE_ADDR") not in LOOPBACK:
        return JsonResponse({"error": "only from this machine"}, status=403)
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not settings.OPS_TOKEN or not hmac.compare_digest(
        given.encode(), settings.OPS_TOKEN.encode()
    ):
        return JsonResponse({"error": "send Authorization: Bearer <SHOP_OPS_TOKEN>"}, status=401)
    if request.method == "GET":
        return JsonResponse({"faults": switches.state(), "meaning": FAULTS})
    try:
        return JsonResponse({"faults": switches.set(json.loads(request.body))})
    except (ValueError, WrongSwitch) as exc:
        return JsonResponse({"error": str(exc)}, status=400)


@require_safe
def metrics(_request):
    """Prometheus's text format."""
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


@csrf_exempt
@require_POST
def rum(request):
    """Forward a browser's beacons."""
    if len(request.body) > MAX_BEACON_BYTES:
        return HttpResponse(status=413)
    try:
        beacons = json.loads(request.body)
    except ValueError:
        return HttpResponse(status=400)
    if telemetry.beacons is not None and beacons:
        telemetry.beacons.put(json.dumps(beacons).encode())
    return HttpResponse(status=204)


@require_safe
def healthz(_request):
    """Whether the process answers."""
    return HttpResponse("ok")

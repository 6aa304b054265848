"""`{% load warroom %}{% warroom_rum %}`: web vitals of real visitors, without an external script.

Settings: `WARROOM_RUM_URL` (where beacons go; empty renders nothing) and `WARROOM_RUM_SAMPLE`
(share of page views measured, 0 to 1, default 1).
"""

from __future__ import annotations

import json
from pathlib import Path

from django import template
from django.conf import settings
from django.template.base import TemplateSyntaxError
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from opentelemetry import trace

register = template.Library()

_SCRIPT = Path(__file__).parent.parent / "rum.js"


@register.simple_tag(takes_context=True)  # type: ignore[untyped-decorator]
def warroom_rum(context: template.Context, page: str = "") -> SafeString:
    """The measuring script. `page` groups pages; by default it is the route's pattern."""
    url = getattr(settings, "WARROOM_RUM_URL", "")
    if not url:
        return SafeString("")
    sample = float(getattr(settings, "WARROOM_RUM_SAMPLE", 1.0))
    if not 0 <= sample <= 1:
        raise TemplateSyntaxError(f"WARROOM_RUM_SAMPLE is {sample}; write a share from 0 to 1")
    request = context.get("request")
    match = getattr(request, "resolver_match", None)
    span = trace.get_current_span().get_span_context()
    options = {
        "url": url,
        "sample": sample,
        "page": page or (f"/{match.route}" if match is not None else ""),
        "trace": f"{span.trace_id:032x}" if span.is_valid else "",
    }
    nonce = getattr(request, "csp_nonce", "")
    # "<" must not end the script element early.
    literal = json.dumps(options).replace("<", "\\u003c")
    attribute = format_html(' nonce="{}"', nonce) if nonce else ""
    script = _SCRIPT.read_text(encoding="utf-8")
    return mark_safe(f"<script{attribute}>({script})({literal});</script>")  # noqa: S308

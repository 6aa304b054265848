"""What browsers measure: the web vitals, and the parts of a page load."""

from __future__ import annotations

from dataclasses import dataclass

_MS = 1000.0


@dataclass(frozen=True, slots=True)
class VitalKind:
    """A measurement: its series, its bucket bounds, and the largest value that is believed.

    The thresholds of good and poor (web-vitals 6) are among the bounds.
    """

    family: str
    bounds: tuple[float, ...]
    largest: float
    divisor: float = _MS
    help: str = "Web vital of real browsers"


def _part(name: str, told: str, *, long: bool = False) -> VitalKind:
    bounds = (0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 10, 20)
    short = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)
    return VitalKind(f"browser_page_load{name}_seconds", bounds if long else short, 600, help=told)


VITALS = {
    "LCP": VitalKind("browser_web_vital_lcp_seconds", (0.5, 1, 1.5, 2, 2.5, 3, 4, 6, 10), 600),
    "INP": VitalKind("browser_web_vital_inp_seconds", (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2), 600),
    "FCP": VitalKind("browser_web_vital_fcp_seconds", (0.5, 1, 1.8, 2.5, 3, 5, 10), 600),
    "TTFB": VitalKind("browser_web_vital_ttfb_seconds", (0.1, 0.2, 0.5, 0.8, 1.2, 1.8, 5), 600),
    "CLS": VitalKind("browser_web_vital_cls", (0.01, 0.05, 0.1, 0.15, 0.25, 0.5, 1), 1000, 1.0),
}
# Parts of PerformanceNavigationTiming (W3C, Navigation Timing Level 2).
PAGE_LOAD = {
    "DNS": _part("_dns", "Looking up the name, of real browsers"),
    "CONNECT": _part("_connect", "Opening the connection, TLS included, of real browsers"),
    "TLS": _part("_tls", "Negotiating TLS, of real browsers"),
    "REQUEST": _part("_request", "From the request to the first byte, of real browsers"),
    "DOWNLOAD": _part("_download", "From the first byte to the last, of real browsers"),
    "LOAD": _part("", "From the navigation to the end of the load event", long=True),
}
KINDS = {**VITALS, **PAGE_LOAD}

# Grafana Faro's event "faro.performance.navigation": attribute → part.
FARO_NAVIGATION = {
    "dnsLookupTime": "DNS",
    "tcpHandshakeTime": "CONNECT",
    "tlsNegotiationTime": "TLS",
    "requestTime": "REQUEST",
    "responseTime": "DOWNLOAD",
    "pageLoadTime": "LOAD",
}

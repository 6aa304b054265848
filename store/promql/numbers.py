"""Numbers and names as Prometheus writes them."""

from __future__ import annotations

import math

from store.histograms import NativeHistogram


def format_float(value: float) -> str:
    """Go's `FormatFloat(v, 'f', -1, 64)`: shortest digits, no exponent."""
    special = _special(value)
    if special:
        return special
    text = repr(value)
    if "e" in text:
        return _expanded(text)
    return text.removesuffix(".0")


def _expanded(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
    whole, _, fraction = digits.partition(".")
    shift = int(exponent)
    if shift < 0:
        return f"{sign}0.{'0' * (-shift - len(whole))}{whole}{fraction if fraction != '0' else ''}"
    fraction = "" if fraction == "0" else fraction
    return f"{sign}{whole}{fraction.ljust(shift, '0')}"


def format_g(value: float) -> str:
    """Go's `%g`: shortest digits, an exponent below 1e-4 and from 1e21 on."""
    special = _special(value)
    if special:
        return special
    magnitude = abs(value)
    if magnitude and (magnitude < 1e-4 or magnitude >= 1e21):
        mantissa, _, exponent = f"{value!r}".partition("e")
        if not exponent:
            mantissa, _, exponent = f"{value:e}".partition("e")
            mantissa = mantissa.rstrip("0")
        number = int(exponent)
        sign = "-" if number < 0 else "+"
        return f"{mantissa.removesuffix('.0').rstrip('.')}e{sign}{abs(number):02d}"
    return format_float(value)


def format_histogram(histogram: NativeHistogram) -> str:
    """Prometheus's short form: count, sum, and every bucket that is not empty."""
    parts = [f"count:{format_g(histogram.count)}", f"sum:{format_g(histogram.sum)}"]
    for bucket in histogram.buckets():
        if bucket.count != 0:
            opens = "[" if bucket.lower_inclusive else "("
            closes = "]" if bucket.upper_inclusive else ")"
            bounds = f"{format_g(bucket.lower)},{format_g(bucket.upper)}"
            parts.append(f"{opens}{bounds}{closes}:{format_g(bucket.count)}")
    return "{" + ", ".join(parts) + "}"


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return ""


def valid_label_name(name: str) -> bool:
    """Prometheus 3 takes any name that is UTF-8 and not empty."""
    return bool(name) and not any("\ud800" <= char <= "\udfff" for char in name)


def quoted(text: str) -> str:
    r"""Go's `%q`: double quotes, escapes, and `\xc5` for bytes that are no UTF-8."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif "\udc80" <= char <= "\udcff":
            out.append(f"\\x{ord(char) - 0xDC00:02x}")
        elif char in "\n\r\t":
            out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char])
        elif char.isprintable():
            out.append(char)
        else:
            out.append(f"\\x{ord(char):02x}" if ord(char) < 0x80 else f"\\u{ord(char):04x}")
    return '"' + "".join(out) + '"'

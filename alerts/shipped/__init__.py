"""Rules that come with Warroom: one for each threshold that shops ask for first, and its own."""

from __future__ import annotations

from importlib import resources

THRESHOLDS = "thresholds.yml"
SELF = "self.yml"


def thresholds_text() -> str:
    """The rule file of the shipped thresholds."""
    return resources.files("alerts.shipped").joinpath(THRESHOLDS).read_text(encoding="utf-8")


def self_text() -> str:
    """The rule file with which Warroom watches itself."""
    return resources.files("alerts.shipped").joinpath(SELF).read_text(encoding="utf-8")

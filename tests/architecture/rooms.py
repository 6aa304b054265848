"""The rooms of the house."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = (
    "warroom",
    "dashboards",
    "api",
    "alerts",
    "detectors",
    "slos",
    "business_metrics",
    "collector",
    "store",
)

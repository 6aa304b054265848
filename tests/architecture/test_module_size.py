"""Small modules: a reader holds one in mind at a time."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
MAX_LINES = 400
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


def test_no_module_is_longer_than_the_limit() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "node_modules" not in path.parts
        and (count := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert long == {}

"""`python -m bench`: run benchmarks and print their tables."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import orjson

from bench import proc, report, targets
from bench.registry import BENCHMARKS
from bench.server import BenchFailed
from bench.setup import Setup
from bench.sizes import FULL, QUICK, TINY
from bench.table import Table, markdown

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_QUICK_WATCHERS = 50
_MOST_WATCHERS = 4_000


def main(argv: Sequence[str]) -> int:
    """Run what is asked for; 1 when a benchmark failed."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _leave)
    here, absent = targets.found()
    told = report.Circumstances.now(_command(argv), targets.versions(here), absent)
    print("\n".join(told.lines()) + "\n", flush=True)
    sizes = TINY if arguments.tiny else QUICK if arguments.quick else FULL
    watchers = min(arguments.watchers or _watchers(arguments), _MOST_WATCHERS)
    tables: list[Table] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="warroom-bench-") as directory:
        setup = Setup(sizes, here, Path(directory), watchers, _say)
        for name in arguments.only or BENCHMARKS:
            try:
                tables += _run(setup, name, list(told.versions))
            except BenchFailed as exc:
                print(f"bench: {name}: {exc}", file=sys.stderr)
                failed = True
            _keep(arguments, told, tables)
    return 1 if failed else 0


def _run(setup: Setup, name: str, columns: Sequence[str]) -> list[Table]:
    before, started = proc.load_average(), time.perf_counter()
    made = BENCHMARKS[name](setup)
    after, took_s = proc.load_average(), time.perf_counter() - started
    tables = [table.during(before, after, took_s) for table in made]
    for table in tables:
        print(markdown(table, columns), flush=True)
    return tables


def _keep(
    arguments: argparse.Namespace, told: report.Circumstances, tables: Sequence[Table]
) -> None:
    """Write what there is so far: a run takes minutes, and may be cut short."""
    if arguments.json:
        Path(arguments.json).write_bytes(orjson.dumps(report.as_json(told, tables)))
    if arguments.write and tables:
        DOCUMENT.write_text(report.page(told, tables), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Figures against the peers found on this machine."
    )
    parser.add_argument(
        "only", nargs="*", choices=[*BENCHMARKS, []], metavar="BENCHMARK",
        help=f"which ones (default all): {', '.join(BENCHMARKS)}",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="everything small, within a minute")
    parser.add_argument("--tiny", action="store_true", help="the least that runs, for tests")
    parser.add_argument("--watchers", type=int, default=0, help="of the live board (default 1000)")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--json", metavar="FILE", help="also write the figures as JSON")
    return parser


def _watchers(arguments: argparse.Namespace) -> int:
    if arguments.tiny:
        return 3
    return _QUICK_WATCHERS if arguments.quick else 1_000


def _command(argv: Sequence[str]) -> str:
    return f"make bench ARGS={shlex.quote(' '.join(argv))}" if argv else "make bench"


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """Ends by an exception, so that every server is stopped."""
    raise SystemExit(143)


def _say(text: str) -> None:
    print(f"  … {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Arguments of `warroom backtest`; the work itself is loaded when it runs."""

from __future__ import annotations

import argparse
import sys


def add_backtest_arguments(parser: argparse.ArgumentParser) -> None:
    """`warroom backtest`."""
    parser.add_argument("--config", help="warroom.yaml: the rules, SLOs and settings to try")
    parser.add_argument("--data-dir", help="of a stopped service, or a backup (default ./data)")
    parser.add_argument("--from", dest="start", default="", help="begin (default a day before)")
    parser.add_argument("--to", dest="end", default="", help="end (default now)")
    parser.add_argument("--step", default="30s", help="time between two ticks (default 30s)")
    parser.add_argument("--incidents", help="YAML or CSV of marked incidents: from, to, title")
    parser.add_argument("--scratch", help="where the store is copied to (default: temporary)")
    parser.add_argument("--list", action="store_true", help="every alert, too")
    parser.add_argument("--json", action="store_true", help="the whole report as JSON")
    parser.set_defaults(run=_run_backtest)


def _run_backtest(arguments: argparse.Namespace) -> int:
    from warroom.backtest import backtest  # noqa: PLC0415  # heavy, and other commands do without
    from warroom.telemetry import configure_logs  # noqa: PLC0415  # as above

    # Standard output is the report's.
    configure_logs(level="warning")

    def progress(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    return backtest(arguments, print, progress)

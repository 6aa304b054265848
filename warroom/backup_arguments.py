"""Arguments of `warroom backup` and `warroom restore`; the work itself is loaded when it runs."""

from __future__ import annotations

import argparse


def add_backup_arguments(parser: argparse.ArgumentParser) -> None:
    """`warroom backup`."""
    parser.add_argument("--to", required=True, help="a directory that is empty or not there yet")
    parser.add_argument("--data-dir", help="the service's data directory (default ./data)")
    parser.add_argument("--config", help="warroom.yaml")
    parser.add_argument("--url", default="http://127.0.0.1:8600", help="the service, where it runs")
    parser.add_argument("--token", default="", help="or WARROOM_TOKEN in the environment")
    parser.set_defaults(run=_run_backup)


def add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    """`warroom restore`."""
    parser.add_argument("--from", dest="source", required=True, help="a backup's directory")
    parser.add_argument("--data-dir", required=True, help="one that is empty or not there yet")
    parser.set_defaults(run=_run_restore)


def _run_backup(arguments: argparse.Namespace) -> int:
    from warroom.backups import backup  # noqa: PLC0415  # heavy, and other commands do without it

    return backup(arguments, print)


def _run_restore(arguments: argparse.Namespace) -> int:
    from warroom.backups import restore  # noqa: PLC0415  # as above

    return restore(arguments, print)

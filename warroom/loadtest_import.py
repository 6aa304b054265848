"""`warroom loadtest import`: a summary of k6 from a file to the running service."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from store.errors import BadInput
from warroom import client

_PARAMETERS = ("name", "started_at", "ended_at", "target_multiple")


def add_arguments(parser: argparse.ArgumentParser, default_url: str) -> None:
    """The command's arguments."""
    parser.add_argument("action", choices=("import",))
    parser.add_argument("file", metavar="FILE", help="what k6's --summary-export wrote")
    parser.add_argument("--name", default="", help="what to call it")
    parser.add_argument("--target-multiple", default="", help="times the usual traffic, such as 3")
    parser.add_argument("--started-at", default="", help="RFC 3339 (default: told by its length)")
    parser.add_argument("--ended-at", default="", help="RFC 3339 (default: now)")
    parser.add_argument("--url", default=default_url, help=f"the service ({default_url})")
    parser.add_argument("--token", default="", help="or WARROOM_TOKEN in the environment")


def import_load_test(arguments: argparse.Namespace, show: Callable[[str], None]) -> int:
    """Send the file and print what became of it; 1 when a threshold of the test failed."""
    try:
        summary = Path(arguments.file).read_bytes()
    except OSError as exc:
        raise BadInput(f"{arguments.file} cannot be read: {exc.strerror}") from exc
    told = {name: value for name in _PARAMETERS if (value := getattr(arguments, name))}
    made = client.post_load_test(arguments.url, arguments.token, told, summary)
    failed = [one["name"] for one in made["thresholds"] if not one["ok"]]
    show(f"{made['id']}  {made['name']}: {made['requests']} requests, {len(failed)} bounds broken")
    for name in failed:
        show(f"   broken: {name}")
    return 1 if failed else 0

"""`warroom board import`: a Grafana dashboard as a board, and what was not taken over."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import orjson

from api.boards import board_yaml, parse_board
from api.grafana.importing import import_dashboard
from store.errors import BadInput
from warroom.client import save_board

Show = Callable[[str], None]
_MAX_BYTES = 4 * 1024 * 1024


def import_board(arguments: argparse.Namespace, show: Show, warn: Show) -> int:
    """Print the board, write it to a file, or save it in the running service.

    `warn` is told what was not taken over, a line each.

    Raises:
        WarroomError: The file is no dashboard, or the board cannot be written.
    """
    imported = import_dashboard(_read(arguments.file))
    board = imported.board
    if arguments.name:
        board = board.model_copy(update={"name": arguments.name})
    text = board_yaml(board)
    parse_board(text, arguments.out or f"{board.name}.yaml")
    if arguments.save:
        save_board(arguments.url, arguments.token, board.name, text)
        show(f"saved: {arguments.url}/?board={board.name}")
    elif arguments.out:
        _write(Path(arguments.out), text)
        show(f"{arguments.out}: {len(board.panels)} panels")
    else:
        show(text.rstrip())
    for left in imported.not_taken_over:
        warn(f"not taken over: {left.where}: {left.what}")
    return 0


def _read(name: str) -> dict[str, object]:
    try:
        body = Path(name).read_bytes()
        document = orjson.loads(body) if len(body) <= _MAX_BYTES else None
    except OSError as exc:
        raise BadInput(f"{name} cannot be read: {exc.strerror}") from exc
    except orjson.JSONDecodeError as exc:
        raise BadInput(f"{name} is no JSON: {exc}", hint="export it from Grafana as JSON") from exc
    if not isinstance(document, dict):
        raise BadInput(f"{name} is no dashboard of at most {_MAX_BYTES} bytes")
    return document


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise BadInput(f"{path} cannot be written: {exc.strerror}") from exc

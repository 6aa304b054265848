"""The boards of files: shipped ones, and those of `boards_dir`, which may replace them."""

from __future__ import annotations

from collections.abc import Mapping

from api.boards import BoardText, parse_board
from dashboards.boards import shipped_boards
from warroom.config import Settings


def read_boards(settings: Settings) -> Mapping[str, BoardText]:
    """Every board by name.

    Raises:
        ConfigError: A mistake in a board's file.
    """
    boards = {}
    for name, text in shipped_boards().items():
        board = parse_board(text, f"(shipped) {name}.yaml")
        boards[board.name] = BoardText(board, text, "shipped")
    for file in settings.boards:
        board = parse_board(file.text, file.name)
        boards[board.name] = BoardText(board, file.text, "file")
    return boards

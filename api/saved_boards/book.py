"""Every board there is: those of files, under those that people saved in the browser.

A saved board of the same name stands before a file's; forgetting it brings the file's back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import structlog

from api.boards import Board, BoardText, parse_board
from api.saved_boards.repository import MAX_BOARDS, SavedBoard, tag_of
from store.errors import BadInput, ConfigError

log = structlog.get_logger()


class Outcome(StrEnum):
    """What became of a change."""

    CREATED = "created"
    CHANGED = "changed"
    REMOVED = "removed"
    UNKNOWN = "unknown"
    NOT_SAVED = "not_saved"  # it comes from a file, which no request removes
    TAG_MISSING = "tag_missing"
    CONFLICT = "conflict"  # it changed after it was read


class SavedBoards(Protocol):
    """Where saved boards are kept."""

    def all(self) -> tuple[SavedBoard, ...]: ...
    def add(self, board: SavedBoard) -> bool: ...
    def replace(self, board: SavedBoard, tag: str) -> bool: ...
    def remove(self, name: str, tag: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class BrokenBoard:
    """A saved text that is no board for this version, and why."""

    name: str
    text: str
    problem: str


class BoardBook:
    """The boards in force. Reading is from memory; a change is a row first."""

    def __init__(self, files: Callable[[], Mapping[str, BoardText]], saved: SavedBoards) -> None:
        self._files = files
        self._repository = saved
        self._lock = threading.Lock()
        self._saved: dict[str, BoardText] = {}
        self._broken: dict[str, BrokenBoard] = {}
        self._merged: Mapping[str, Board] = {}
        self._merged_of: tuple[object, object] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Read the saved boards again: another replica may have changed them."""
        found = {}
        broken = {}
        for row in self._repository.all():
            try:
                board = parse_board(row.text, f"(saved) {row.name}")
            except ConfigError as exc:  # written by another version: the file's shows
                log.warning("a saved board cannot be read", name=row.name, error=str(exc))
                broken[row.name] = BrokenBoard(row.name, row.text, str(exc))
                continue
            found[row.name] = BoardText(board, row.text, "saved")
        with self._lock:
            if found != self._saved:
                self._saved = found
            self._broken = broken

    def texts(self) -> dict[str, BoardText]:
        """Every board by name."""
        return {**self._files(), **self._saved}

    def broken(self) -> Mapping[str, BrokenBoard]:
        """Saved boards that this version cannot read, by name; they may be replaced or removed."""
        return self._broken

    def boards(self) -> Mapping[str, Board]:
        """Every board by name; the same mapping until something changes."""
        files, saved = self._files(), self._saved
        of = self._merged_of
        if of is None or of[0] is not files or of[1] is not saved:
            self._merged = {name: text.board for name, text in {**files, **saved}.items()}
            self._merged_of = (files, saved)
        return self._merged

    def save(self, name: str, text: str, tag: str | None, now_ms: int) -> Outcome:
        """Keep a text under its board's name.

        Args:
            name: The board.
            text: What `parse_board` reads.
            tag: Of the text that was edited; None for a board that is new.
            now_ms: The time of the change.

        Raises:
            ConfigError: A mistake in the text.
            BadInput: The text is of another board, or there are too many boards.
        """
        board = parse_board(text, f"{name}.yaml")
        if board.name != name:
            raise BadInput(
                f"the text is of the board {board.name!r}, not of {name!r}",
                hint="the name in the address and the one in the text must be the same",
            )
        with self._lock:
            outcome = self._save(SavedBoard(name, text, now_ms), tag)
            if outcome in {Outcome.CREATED, Outcome.CHANGED}:
                self._saved = {**self._saved, name: BoardText(board, text, "saved")}
                self._mended(name)
        return outcome

    def _save(self, board: SavedBoard, tag: str | None) -> Outcome:
        held = self.texts().get(board.name)
        is_saved = board.name in self._broken or (held is not None and held.origin == "saved")
        if held is None and not is_saved:
            if tag is not None:
                return Outcome.CONFLICT
            if len(self._saved) + len(self._broken) >= MAX_BOARDS:
                raise BadInput(f"there are {MAX_BOARDS} saved boards already", hint="remove some")
            return Outcome.CREATED if self._repository.add(board) else Outcome.CONFLICT
        if tag is None:
            return Outcome.TAG_MISSING
        if held is not None and not is_saved:
            # The first edit of a file's board makes a copy of it.
            same = tag == tag_of(held.text)
            return Outcome.CHANGED if same and self._repository.add(board) else Outcome.CONFLICT
        return Outcome.CHANGED if self._repository.replace(board, tag) else Outcome.CONFLICT

    def remove(self, name: str, tag: str | None) -> Outcome:
        """Forget what was saved under a name."""
        with self._lock:
            held = self.texts().get(name)
            is_broken = name in self._broken
            if held is None and not is_broken:
                return Outcome.UNKNOWN
            if held is not None and held.origin != "saved" and not is_broken:
                return Outcome.NOT_SAVED
            if tag is None:
                return Outcome.TAG_MISSING
            if not self._repository.remove(name, tag):
                return Outcome.CONFLICT
            self._saved = {key: text for key, text in self._saved.items() if key != name}
            self._mended(name)
        return Outcome.REMOVED

    def _mended(self, name: str) -> None:
        self._broken = {key: row for key, row in self._broken.items() if key != name}

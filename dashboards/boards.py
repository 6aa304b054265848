"""The boards that are shipped, as the YAML they are written in."""

from __future__ import annotations

from importlib import resources


def shipped_boards() -> dict[str, str]:
    """The shipped boards' texts by name; `api.boards.parse_board` reads them."""
    folder = resources.files("dashboards").joinpath("boards")
    return {
        entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    }

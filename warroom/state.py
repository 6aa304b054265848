"""Where the state database is."""

from __future__ import annotations

from warroom.config import Settings


def state_url(settings: Settings) -> str:
    """SQLAlchemy's URL: `sqlite` is a file in the data directory."""
    url = settings.file.state.url
    if url == "sqlite":
        return f"sqlite:///{settings.data_dir / 'state.db'}"
    return url

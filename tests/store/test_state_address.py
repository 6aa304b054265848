"""Where the state may be: what is refused, with the remedy and without the secret."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from store.errors import ConfigError, StoreUnavailable
from store.sql import open_engine


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+psycopg://ada:s3cret@db/warroom", "PGPASSWORD"),
        ("postgresql+psycopg://ada@db/warroom?password=s3cret", "PGPASSWORD"),
        ("postgresql+psycopg2://db/warroom", "postgresql\\+psycopg://"),
        ("mysql+pymysql://ada:s3cret@db/warroom", "postgresql\\+psycopg://"),
        ("s3cret", "no address"),
    ],
)
def test_an_address_that_cannot_work_is_refused_without_showing_it(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        open_engine(url)
    assert "s3cret" not in str(refused.value)


def test_a_database_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'state.db'}")
    with pytest.raises(StoreUnavailable, match="state database does not answer"):
        engine.connect()
    engine.dispose()


def test_a_mistake_in_a_statement_stays_one(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'state.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE one (id INTEGER PRIMARY KEY)"))
        connection.execute(sa.text("INSERT INTO one VALUES (1)"))
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO one VALUES (1)"))
    engine.dispose()

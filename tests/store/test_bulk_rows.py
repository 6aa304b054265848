"""Very many rows at once, past SQLAlchemy's look at each value, are what SQLAlchemy reads back."""

from __future__ import annotations

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from store.sql import json_text, open_engine, open_sessions, write_rows

THINGS = sa.Table(
    "things",
    sa.MetaData(),
    sa.Column("order", sa.String(8), primary_key=True),
    sa.Column("number", sa.BigInteger),
    sa.Column("texts", sa.JSON, nullable=False),
)
# Half of a surrogate pair too: a label may hold what is no valid Unicode.
TEXTS = st.dictionaries(st.text(max_size=8), st.text(st.characters(), max_size=8), max_size=3)
ROWS = st.dictionaries(
    st.text("abc", min_size=1, max_size=2),
    st.tuples(st.none() | st.integers(-(2**40), 2**40), TEXTS),
    max_size=5,
)


@given(first=ROWS, then=ROWS)
def test_a_row_whose_key_is_known_is_written_over(
    first: dict[str, tuple[int | None, dict[str, str]]],
    then: dict[str, tuple[int | None, dict[str, str]]],
) -> None:
    database = open_engine("sqlite://")
    THINGS.create(database)
    with open_sessions(database).begin() as session:
        for rows in (first, then):
            wanted = [(key, number, json_text(texts)) for key, (number, texts) in rows.items()]
            write_rows(session, THINGS, wanted, key=["order"])
        found = {row.order: (row.number, row.texts) for row in session.execute(sa.select(THINGS))}
    database.dispose()
    assert found == {**first, **then}


def test_numbers_that_json_does_not_know_are_read_back() -> None:
    database = open_engine("sqlite://")
    THINGS.create(database)
    with open_sessions(database).begin() as session:
        session.execute(sa.insert(THINGS).values(order="a", texts=[float("inf"), 2**70, "\ud800"]))
        (row,) = session.execute(sa.select(THINGS))
        assert row.texts == [float("inf"), 2**70, "\ud800"]
    database.dispose()

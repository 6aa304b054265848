import importlib
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from store.sql import Base, open_engine, upgrade

ROOT = Path(__file__).parents[2]


def every_repository() -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for room in ("store", "detectors", "slos", "business_metrics", "alerts", "api")
        for path in (ROOT / room).rglob("repository.py")
    ]


def test_the_migrations_make_just_the_tables_that_the_repositories_use(tmp_path: Path) -> None:
    for module in every_repository():
        importlib.import_module(module)
    engine = open_engine(f"sqlite:///{tmp_path / 'state.db'}")
    upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)
        tables = set(inspect(connection).get_table_names())
    engine.dispose()
    assert differences == []
    assert tables == set(Base.metadata.tables) | {"alembic_version"}


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'state.db'}")
    upgrade(engine)
    upgrade(engine)
    with engine.connect() as connection:
        assert "annotations" in inspect(connection).get_table_names()
    engine.dispose()

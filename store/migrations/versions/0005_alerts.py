"""Alert states, groups, silences, the outbox, the delivery ledger, incidents."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def _text(name: str, size: int | None = None) -> sa.Column[Any]:
    return sa.Column(name, sa.String(size) if size else sa.Text, nullable=False)


def _ms(name: str, *, nullable: bool = False, index: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=nullable, index=index)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON, nullable=False)


def _key(name: str, size: int) -> sa.Column[Any]:
    return sa.Column(name, sa.String(size), primary_key=True)


def _seq() -> sa.Column[Any]:
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)


def upgrade() -> None:
    op.create_table(
        "alert_engine", sa.Column("id", sa.Integer, primary_key=True), _ms("last_tick_ms")
    )
    op.execute("INSERT INTO alert_engine (id, last_tick_ms) VALUES (1, 0)")
    op.create_table(
        "alert_states",
        _key("fingerprint", 32),
        _json("labels"),
        _json("annotations"),
        _text("state", 16),
        _ms("active_ms"),
        _ms("starts_ms"),
        _ms("resolved_ms", nullable=True),
        _ms("ended_ms", nullable=True),
        _text("reason", 32),
        sa.Column("value", sa.Float),
        _text("source", 32),
        _text("unit", 1024),
        _text("generator_url", 4096),
        sa.Column("keep_firing_s", sa.Float, nullable=False),
        _text("incident_id", 64),
    )
    op.create_table(
        "alert_posted",
        _key("fingerprint", 32),
        _json("labels"),
        _json("annotations"),
        _ms("starts_ms"),
        _ms("ends_ms"),
        _text("generator_url", 4096),
    )
    op.create_table(
        "alert_groups",
        _key("id", 64),
        _text("key"),
        _text("route_id"),
        _text("receiver", 256),
        _json("labels"),
        _ms("created_ms"),
        _ms("next_flush_ms"),
        _ms("last_flush_ms", nullable=True),
    )
    op.create_table(
        "alert_notification_log",
        _key("lane", 512),
        sa.Column("group_id", sa.String(64), nullable=False, index=True),
        _text("receiver", 256),
        sa.Column("integration", sa.Integer, nullable=False),
        _json("firing"),
        _json("resolved"),
        _ms("at_ms"),
        _text("reason", 64),
        _text("dedup_key", 255),
    )
    op.create_table(
        "alert_silences",
        _key("id", 64),
        _json("matchers"),
        _ms("starts_ms"),
        _ms("ends_ms"),
        _text("created_by"),
        _text("comment"),
        _ms("updated_ms"),
    )
    _create_ledger()
    _create_incidents()


def _create_ledger() -> None:
    op.create_table(
        "alert_outbox",
        _seq(),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("lane", sa.String(512), nullable=False, index=True),
        _text("dedup_key", 255),
        _text("incident_id", 64),
        _json("payload"),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        _ms("next_attempt_ms"),
        _ms("lease_until_ms"),
        _text("claimed_by", 64),
        _ms("created_ms"),
        _ms("finished_ms", nullable=True),
        _text("last_error"),
    )
    op.create_table(
        "alert_deliveries",
        _seq(),
        sa.Column("notice_id", sa.String(64), nullable=False, index=True),
        _text("receiver", 256),
        _text("kind", 32),
        _text("action", 16),
        _text("dedup_key", 255),
        _text("incident_id", 64),
        _ms("at_ms", index=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("ok", sa.Boolean, nullable=False),
        sa.Column("status", sa.Integer),
        _text("detail"),
    )


def _create_incidents() -> None:
    op.create_table(
        "incidents",
        _key("id", 64),
        _text("title"),
        _text("severity", 64),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        _ms("started_ms"),
        _ms("detected_ms", index=True),
        _ms("acknowledged_ms", nullable=True),
        _text("acknowledged_by", 256),
        _ms("resolved_ms", nullable=True),
    )
    op.create_table(
        "incident_alerts",
        _key("incident_id", 64),
        _key("fingerprint", 32),
        _json("labels"),
        _json("annotations"),
        _ms("fired_ms"),
        _ms("resolved_ms", nullable=True),
    )
    op.create_table(
        "incident_events",
        _seq(),
        sa.Column("incident_id", sa.String(64), nullable=False, index=True),
        _ms("at_ms", index=True),
        _text("kind", 32),
        _text("title"),
        _text("ref", 256),
    )


def downgrade() -> None:
    for table in (
        *("incident_events", "incident_alerts", "incidents", "alert_deliveries", "alert_outbox"),
        *("alert_silences", "alert_notification_log", "alert_groups", "alert_posted"),
        *("alert_states", "alert_engine"),
    ):
        op.drop_table(table)

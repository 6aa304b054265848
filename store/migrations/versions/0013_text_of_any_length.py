"""PostgreSQL holds text of any length, as SQLite always did: a long label must not stop a tick."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "text_of_any_length"
down_revision = "escalation_incidents"
branch_labels = None
depends_on = None

# By name: the schema may be shared with tables that are not ours.
COLUMNS = {
    "alert_deliveries": ("notice_id", "receiver", "kind", "action", "dedup_key", "incident_id"),
    "alert_escalations": ("lane", "policy", "first_id", "state"),
    "alert_groups": ("id", "receiver"),
    "alert_notification_log": ("lane", "group_id", "receiver", "reason", "dedup_key"),
    "alert_outbox": ("id", "lane", "dedup_key", "incident_id", "state", "claimed_by"),
    "alert_posted": ("fingerprint", "generator_url"),
    "alert_recurring_silences": ("id",),
    "alert_silences": ("id",),
    "alert_states": (
        "fingerprint",
        "state",
        "reason",
        "source",
        "unit",
        "generator_url",
        "incident_id",
    ),
    "annotations": ("id", "kind", "title", "service", "version", "url"),
    "api_tokens": ("id", "name", "role", "sha256"),
    "boards": ("name", "tag"),
    "business_breaches": ("kpi", "severity"),
    "detector_cursor": ("name",),
    "finding_history": ("finding_id", "event", "detail", "actor"),
    "findings": ("id", "kind", "priority", "status", "service", "route", "suppress_reason"),
    "incident_alerts": ("incident_id", "fingerprint"),
    "incident_events": ("incident_id", "kind", "ref"),
    "incidents": ("id", "severity", "state", "acknowledged_by"),
    "load_tests": ("id", "name", "source", "url"),
    "slo_maintenance": ("slo_id",),
    "slo_policy_spans": ("policy", "slo_id", "service", "action"),
}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, columns in COLUMNS.items():
        for column in columns:
            op.alter_column(table, column, type_=sa.Text())


def downgrade() -> None:
    """Nothing: what is longer by now would not fit."""

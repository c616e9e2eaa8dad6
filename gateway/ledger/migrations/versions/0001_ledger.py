"""The ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "opt_outs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("phone_number", sa.String(10)),
        sa.Column("phone_number_received", sa.String(255), nullable=False),
        sa.Column("store", sa.String(19), nullable=False),
        sa.Column("reference", sa.String(255)),
        sa.Column("reason", sa.String(500)),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("requested_at", _TIME, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("next_attempt_at", _TIME),
        sa.Column("claim", sa.String(32)),
        sa.Column("in_background", sa.Boolean, nullable=False),
        sa.Column("give_up_at", _TIME, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("opted_out_at", _TIME),
        sa.Column("already_opted_out", sa.Boolean, nullable=False),
        sa.Column("customer", sa.JSON),
        sa.Column("error_code", sa.String(40)),
        sa.Column("error_detail", sa.Text),
        sa.Column("crmtext_status", sa.String(255)),
        sa.Column("crmtext_message", sa.String(255)),
    )
    is_pending = sa.text("next_attempt_at IS NOT NULL")
    op.create_index(
        "opt_outs_due",
        "opt_outs",
        ["next_attempt_at"],
        sqlite_where=is_pending,
        postgresql_where=is_pending,
    )
    op.create_index("opt_outs_newest", "opt_outs", ["created_at", "id"])
    op.create_index("opt_outs_by_number", "opt_outs", ["phone_number", "created_at", "id"])
    op.create_index("opt_outs_by_reference", "opt_outs", ["reference", "created_at", "id"])
    op.create_index("opt_outs_by_source", "opt_outs", ["source", "status"])
    has_error = sa.text("error_code IS NOT NULL")
    op.create_index(
        "opt_outs_by_error",
        "opt_outs",
        ["status", "error_code"],
        sqlite_where=has_error,
        postgresql_where=has_error,
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("opt_out_id", sa.String(36), sa.ForeignKey("opt_outs.id"), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("ended_at", _TIME),
        sa.Column("outcome", sa.String(40)),
        sa.Column("http_status", sa.Integer),
        sa.Column("crmtext_status", sa.String(255)),
        sa.Column("crmtext_message", sa.String(255)),
    )
    op.create_index("ix_attempts_opt_out_id", "attempts", ["opt_out_id"])
    op.create_table(
        "receipts",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("opt_out_id", sa.String(36), nullable=False),
        sa.Column("expires_at", _TIME),
    )
    clock = op.create_table(
        "clock",
        sa.Column("name", sa.String(10), primary_key=True),
        sa.Column("at", _TIME),
    )
    op.bulk_insert(clock, [{"name": "pace"}, {"name": "worker"}])

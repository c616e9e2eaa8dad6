"""The ledger's tables. ``migrations`` creates and upgrades them; a test holds the two together."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.engine import Dialect


class UtcTime(TypeDecorator[datetime]):
    """An aware moment. SQLite keeps no zone, so it is given UTC and read as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _: Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


metadata = MetaData()

opt_outs = Table(
    "opt_outs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("status", String(10), nullable=False),
    Column("phone_number", String(10)),
    Column("phone_number_received", String(255), nullable=False),
    Column("store", String(19), nullable=False),
    Column("reference", String(255)),
    Column("reason", String(500)),
    Column("means", String(20)),
    Column("source", String(100), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("delivery_id", String(255)),
    Column("requested_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # Delivery. A pending row, and no other, has a next_attempt_at: when it is due, or, while a
    # claim is held, when the claim's lease ends.
    Column("next_attempt_at", UtcTime),
    Column("claim", String(32)),
    # Only the release before this one reads it; to be dropped with the next.
    Column("in_background", Boolean, nullable=False, default=True),
    Column("give_up_at", UtcTime, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("failures", Integer, nullable=False),
    # Outcome.
    Column("opted_out_at", UtcTime),
    Column("already_opted_out", Boolean, nullable=False),
    Column("customer", JSON(none_as_null=True)),
    Column("error_code", String(40)),
    Column("error_detail", Text),
    Column("crmtext_status", String(255)),
    Column("crmtext_message", String(255)),
    Index(
        "opt_outs_due",
        "next_attempt_at",
        sqlite_where=text("next_attempt_at IS NOT NULL"),
        postgresql_where=text("next_attempt_at IS NOT NULL"),
    ),
    Index("opt_outs_newest", "created_at", "id"),
    Index("opt_outs_by_number", "phone_number", "created_at", "id"),
    Index("opt_outs_by_reference", "reference", "created_at", "id"),
    Index("opt_outs_by_source", "source", "status"),
    Index(
        "opt_outs_by_error",
        "status",
        "error_code",
        sqlite_where=text("error_code IS NOT NULL"),
        postgresql_where=text("error_code IS NOT NULL"),
    ),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("opt_out_id", ForeignKey("opt_outs.id"), nullable=False, index=True),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("outcome", String(40)),
    Column("http_status", Integer),
    Column("crmtext_status", String(255)),
    Column("crmtext_message", String(255)),
)

# What makes a repeat recognizable: an idempotency key, or a webhook message. No foreign key,
# since the receipt is taken before its opt-out is written, in the same transaction.
receipts = Table(
    "receipts",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("opt_out_id", String(36), nullable=False),
    Column("expires_at", UtcTime),
)

# Moments that all processes share: the next turn within the pace, when a worker was last seen, and
# when it was last tried whether anything can be written.
PACE, WORKER, PROBE = "pace", "worker", "probe"
clock = Table(
    "clock",
    metadata,
    Column("name", String(10), primary_key=True),
    Column("at", UtcTime),  # null until it is used for the first time
)

# Webhook messages that left no opt-out: "ignored", or why they were refused.
webhook_messages = Table(
    "webhook_messages",
    metadata,
    Column("source", String(100), primary_key=True),
    Column("reason", String(40), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("last_at", UtcTime, nullable=False),
)

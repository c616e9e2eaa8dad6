"""How the person asked, a webhook sender's own id, and a row to try whether one can write."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("opt_outs", sa.Column("means", sa.String(20)))
    op.add_column("opt_outs", sa.Column("delivery_id", sa.String(255)))
    clock = sa.table("clock", sa.column("name", sa.String))
    op.bulk_insert(clock, [{"name": "probe"}])

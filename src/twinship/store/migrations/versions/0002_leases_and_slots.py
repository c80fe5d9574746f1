"""Owners hold leases; operations hold slots; what is only read can be claimed by several."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the lease, the slots and shared claims; claims that are held stay."""
    op.add_column(
        "operation", sa.Column("lease_until", sa.Float(), nullable=False, server_default="0")
    )
    op.create_table(
        "slot",
        sa.Column("operation", sa.String(32), sa.ForeignKey("operation.id"), primary_key=True),
        sa.Column("resource", sa.String(600), primary_key=True, index=True),
    )
    op.create_table(
        "new_claim",
        sa.Column("resource", sa.String(600), primary_key=True),
        sa.Column("operation", sa.String(32), sa.ForeignKey("operation.id"), primary_key=True),
        sa.Column("shared", sa.Boolean(), nullable=False),
    )
    op.execute("INSERT INTO new_claim SELECT resource, operation, false FROM claim")
    op.drop_table("claim")
    op.rename_table("new_claim", "claim")

"""The places of tested adapters in the stream of all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "stream",
        sa.Column("stream", sa.Text(), primary_key=True),
        sa.Column("test", sa.Text(), primary_key=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("rejections", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Boolean(), nullable=True),
    )
    op.create_index("ix_stream_position", "stream", ["stream", "position"], unique=True)

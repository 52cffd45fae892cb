"""What judges were frozen with, and what reviews spent at them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "judge_canaries",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("judge", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("canaries", sa.Text(), nullable=False),
        sa.Column("frozen", sa.DateTime(), nullable=False),
        sa.Column("checked", sa.DateTime(), nullable=True),
        sa.Column("shift", sa.Double(), nullable=True),
        sa.Column("moved", sa.Boolean(), nullable=False),
        sa.Column("sound_until", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("ordinal"),
    )
    op.create_index("ix_judge_canaries_judge", "judge_canaries", ["judge", "accepted"], unique=False)
    op.create_table(
        "spending",
        sa.Column("review_ordinal", sa.Integer(), nullable=False),
        sa.Column("judge_calls", sa.Integer(), nullable=False),
        sa.Column("judge_tokens", sa.Integer(), nullable=False),
        sa.Column("money", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["review_ordinal"], ["reviews.ordinal"]),
        sa.PrimaryKeyConstraint("review_ordinal"),
    )

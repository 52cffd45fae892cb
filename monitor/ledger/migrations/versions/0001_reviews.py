"""The reviews and what they share."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "answers",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model", "key"),
    )
    op.create_table(
        "judgements",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("judgement", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "reviews",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("context_digest", sa.Text(), nullable=False),
        sa.Column("started", sa.DateTime(), nullable=False),
        sa.Column("finished", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("id"),
    )
    with op.batch_alter_table("reviews") as batch_op:
        batch_op.create_index("ix_reviews_digest", ["digest"], unique=False)

    op.create_table(
        "examinations",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("review_ordinal", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("remedy", sa.Text(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["review_ordinal"],
            ["reviews.ordinal"],
        ),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("review_ordinal", "digest"),
    )
    with op.batch_alter_table("examinations") as batch_op:
        batch_op.create_index("ix_examinations_digest", ["digest"], unique=False)

    op.create_table(
        "remedies",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("review_ordinal", sa.Integer(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("begun", sa.DateTime(), nullable=False),
        sa.Column("finished", sa.DateTime(), nullable=True),
        sa.Column("made_digest", sa.Text(), nullable=True),
        sa.Column("made_name", sa.Text(), nullable=True),
        sa.Column("made_path", sa.Text(), nullable=True),
        sa.Column("made_parent", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["review_ordinal"],
            ["reviews.ordinal"],
        ),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("review_ordinal", "method", "digest"),
    )
    op.create_table(
        "looks",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("examination_ordinal", sa.Integer(), nullable=False),
        sa.Column("guard", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("results", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["examination_ordinal"],
            ["examinations.ordinal"],
        ),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("examination_ordinal", "guard", "version"),
    )
    op.create_table(
        "placements",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("examination_ordinal", sa.Integer(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("begun", sa.DateTime(), nullable=False),
        sa.Column("finished", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["examination_ordinal"],
            ["examinations.ordinal"],
        ),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("examination_ordinal"),
    )


def downgrade() -> None:
    """Refuse: an upgrade leaves a copy of the file behind, and that is the way back."""
    raise NotImplementedError("restore the copy that the upgrade made")

"""The service: queue, audit trail, fleet, names and values."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from monitor.ledger.migrations.fill_0002 import fill

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "adapters",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("parent_source", sa.Text(), nullable=True),
        sa.Column("arrival", sa.Text(), nullable=False),
        sa.Column("seen", sa.DateTime(), nullable=False),
        sa.Column("place", sa.Text(), nullable=True),
        sa.Column("placed", sa.DateTime(), nullable=True),
        sa.Column("review", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("digest"),
    )
    with op.batch_alter_table("adapters") as batch_op:
        batch_op.create_index("ix_adapters_arrival", ["arrival"], unique=False)
        batch_op.create_index("ix_adapters_name", ["name"], unique=False)
        batch_op.create_index("ix_adapters_parent", ["parent"], unique=False)
        batch_op.create_index("ix_adapters_place", ["place", "placed"], unique=False)
        batch_op.create_index("ix_adapters_seen", ["seen"], unique=False)

    op.create_table(
        "audit",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ordinal"),
    )
    with op.batch_alter_table("audit") as batch_op:
        batch_op.create_index("ix_audit_kind", ["kind", "at"], unique=False)
        batch_op.create_index("ix_audit_subject", ["subject"], unique=False)

    op.create_table(
        "canaries",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("canaries", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "jobs",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.DateTime(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("expires", sa.DateTime(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("done", sa.Integer(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("enqueued", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("ordinal"),
        sa.UniqueConstraint("digest"),
    )
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.create_index("ix_jobs_order", ["state", "priority", "ordinal"], unique=False)

    op.create_table(
        "metric_values",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels"),
    )
    op.create_table(
        "names",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("ordinal"),
    )
    with op.batch_alter_table("names") as batch_op:
        batch_op.create_index("ix_names_digest", ["digest"], unique=False)
        batch_op.create_index("ix_names_name", ["name"], unique=False)

    op.create_table(
        "overrides",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("applied", sa.DateTime(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("ordinal"),
    )
    with op.batch_alter_table("overrides") as batch_op:
        batch_op.create_index("ix_overrides_digest", ["digest"], unique=False)

    op.create_table(
        "replicas",
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("checked", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("replica"),
    )
    op.create_table(
        "servings",
        sa.Column("replica", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("replica", "digest"),
    )
    with op.batch_alter_table("servings") as batch_op:
        batch_op.create_index("ix_servings_state", ["state", "replica"], unique=False)
    op.create_table(
        "sightings",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("source", "path"),
    )
    op.create_table(
        "measures",
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("review_ordinal", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("measure", sa.Text(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["review_ordinal"],
            ["reviews.ordinal"],
        ),
        sa.PrimaryKeyConstraint("ordinal"),
    )
    with op.batch_alter_table("measures") as batch_op:
        batch_op.create_index("ix_measures_digest", ["digest", "review_ordinal"], unique=False)
    fill(op.get_bind())
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_refuses_{change.lower()} BEFORE {change} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit trail is append-only'); END"
        )


def downgrade() -> None:
    """Refuse: an upgrade leaves a copy of the file behind, and that is the way back."""
    raise NotImplementedError("restore the copy that the upgrade made")

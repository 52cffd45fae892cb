"""How suspicious a waiting adapter is, which orders the queue. What waits already is unknown."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Change the tables."""
    op.add_column("jobs", sa.Column("suspicion", sa.Double(), nullable=True))

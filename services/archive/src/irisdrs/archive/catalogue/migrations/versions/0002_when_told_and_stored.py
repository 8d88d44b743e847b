"""When a product was first announced and stored, and what services spent on it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, empty."""
    op.add_column("product", sa.Column("announced_at", sa.DateTime(), nullable=True))
    op.add_column("product", sa.Column("stored_at", sa.DateTime(), nullable=True))
    op.add_column("product", sa.Column("spent", sa.String(length=400), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    for column in ("spent", "stored_at", "announced_at"):
        op.drop_column("product", column)

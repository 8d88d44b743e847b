"""How the reads of a product become its frame; of products that are there, as their headers say."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_product = sa.table("product", sa.column("artifact_id"), sa.column("sampling_mode"))
_header = sa.table("header", sa.column("artifact_id"), sa.column("hdus", sa.JSON()))


def upgrade() -> None:
    """Add the column, and fill it from the primary headers."""
    op.add_column("product", sa.Column("sampling_mode", sa.String(length=8), nullable=True))
    said = (
        sa.select(_header.c.hdus[(0, "cards", "SAMPMODE")].as_string())
        .where(_header.c.artifact_id == _product.c.artifact_id)
        .scalar_subquery()
    )
    op.execute(_product.update().values(sampling_mode=said))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("product", "sampling_mode")

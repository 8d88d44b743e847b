"""First schema: observations, exposures, artifacts, products, provenance, headers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite counts only an INTEGER key up by itself.
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create all tables."""
    _create_observation()
    _create_exposure()
    _create_artifact()
    _create_product()
    _create_provenance()
    _create_header()


def downgrade() -> None:
    """Drop all tables."""
    for table in ("header", "provenance", "product", "artifact", "exposure", "observation"):
        op.drop_table(table)


def _create_observation() -> None:
    op.create_table(
        "observation",
        sa.Column("observation", sa.String(length=32), nullable=False),
        sa.Column("program", sa.String(length=16), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("mode", sa.String(length=8), nullable=False),
        sa.Column("filter", sa.String(length=32), nullable=False),
        sa.Column("ra_deg", sa.Double(), nullable=False),
        sa.Column("dec_deg", sa.Double(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("observation", name=op.f("pk_observation")),
    )
    op.create_index(op.f("ix_observation_night"), "observation", ["night"], unique=False)
    op.create_index(op.f("ix_observation_program"), "observation", ["program"], unique=False)


def _create_exposure() -> None:
    op.create_table(
        "exposure",
        sa.Column("observation", sa.String(length=32), nullable=False),
        sa.Column("exposure_type", sa.String(length=8), nullable=False),
        sa.Column("exposure", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("detector", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("observation", "exposure_type", "exposure", "detector", name=op.f("pk_exposure")),
    )


def _create_artifact() -> None:
    op.create_table(
        "artifact",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("last_verified_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
        sa.UniqueConstraint("key", "sha256", name=op.f("uq_artifact_key_sha256")),
    )
    op.create_index(op.f("ix_artifact_sha256"), "artifact", ["sha256"], unique=False)


def _create_product() -> None:
    op.create_table(
        "product",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("artifact_id", ROW_ID, nullable=False),
        sa.Column("product_id", sa.String(length=96), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("inputs_hash", sa.String(length=64), nullable=True),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("observation", sa.String(length=32), nullable=False),
        sa.Column("program", sa.String(length=16), nullable=False),
        sa.Column("exposure_type", sa.String(length=8), nullable=False),
        sa.Column("exposure", sa.Integer(), nullable=False),
        sa.Column("detector", sa.String(length=8), nullable=False),
        sa.Column("night", sa.Date(), nullable=False),
        sa.Column("mode", sa.String(length=8), nullable=True),
        sa.Column("filter", sa.String(length=32), nullable=True),
        sa.Column("photons_end", sa.DateTime(), nullable=False),
        sa.Column("reads_used", sa.Integer(), nullable=False),
        sa.Column("reads_expected", sa.Integer(), nullable=False),
        sa.Column("crds_context", sa.String(length=64), nullable=True),
        sa.Column("software_version", sa.String(length=64), nullable=True),
        sa.Column("quality", sa.JSON(), nullable=False),
        sa.Column("ra_deg", sa.Double(), nullable=True),
        sa.Column("dec_deg", sa.Double(), nullable=True),
        sa.Column("radius_deg", sa.Double(), nullable=True),
        sa.Column("healpix", sa.BigInteger(), nullable=True),
        sa.Column("unit_x", sa.Double(), nullable=True),
        sa.Column("unit_y", sa.Double(), nullable=True),
        sa.Column("unit_z", sa.Double(), nullable=True),
        sa.Column("radius_sin", sa.Double(), nullable=True),
        sa.Column("radius_cos", sa.Double(), nullable=True),
        sa.Column("conflicted", sa.Boolean(), nullable=False),
        sa.Column("current", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name=op.f("fk_product_artifact_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_product")),
        sa.UniqueConstraint("artifact_id", name=op.f("uq_product_artifact_id")),
        sa.UniqueConstraint("product_id", "version", name=op.f("uq_product_product_id_version")),
    )
    op.create_index(op.f("ix_product_healpix"), "product", ["healpix"], unique=False)
    op.create_index("ix_product_observation_exposure", "product", ["observation", "exposure", "detector"], unique=False)
    op.create_index(
        "ix_product_photons_end_product_id_version", "product", ["photons_end", "product_id", "version"], unique=False
    )
    op.create_index(op.f("ix_product_radius_deg"), "product", ["radius_deg"], unique=False)


def _create_provenance() -> None:
    op.create_table(
        "provenance",
        sa.Column("product_row", ROW_ID, nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("input_sha256", sa.String(length=64), nullable=False),
        sa.Column("input_product_id", sa.String(length=96), nullable=False),
        sa.ForeignKeyConstraint(["product_row"], ["product.id"], name=op.f("fk_provenance_product_row")),
        sa.PrimaryKeyConstraint("product_row", "role", "input_sha256", name=op.f("pk_provenance")),
    )
    op.create_index(op.f("ix_provenance_input_sha256"), "provenance", ["input_sha256"], unique=False)


def _create_header() -> None:
    op.create_table(
        "header",
        sa.Column("artifact_id", ROW_ID, nullable=False),
        sa.Column("hdus", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifact.id"], name=op.f("fk_header_artifact_id")),
        sa.PrimaryKeyConstraint("artifact_id", name=op.f("pk_header")),
    )

"""The schema, version 3. The migrations create exactly this (a test compares them).

A product is one version of what an exposure gave; its artifact is the object that holds it. Both are written in one
transaction, after the object was fetched and verified, so that there is no row without an object.
"""

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from irisdrs.archive.catalogue.columns import UtcDateTime

#: Names of constraints, so that a later migration can name what it changes.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

#: Row numbers: 64 bits where the database wants to be told; SQLite counts only an INTEGER key up by itself.
RowId = BigInteger().with_variant(Integer, "sqlite")

SHA256_LENGTH = 64


class ArtifactStatus(StrEnum):
    """What the last look at an object's bytes said."""

    VERIFIED = "verified"
    DAMAGED = "damaged"


class Table(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMING)


class Observation(Table):
    """An observation as it was planned, and how far it is."""

    __tablename__ = "observation"

    observation: Mapped[str] = mapped_column(String(32), primary_key=True)
    program: Mapped[str] = mapped_column(String(16), index=True)
    night: Mapped[date] = mapped_column(index=True)
    mode: Mapped[str] = mapped_column(String(8))
    filter: Mapped[str] = mapped_column(String(32))
    ra_deg: Mapped[float]
    dec_deg: Mapped[float]
    plan: Mapped[dict[str, object]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16))


class Exposure(Table):
    """One exposure of one detector: planned, started, ended or aborted."""

    __tablename__ = "exposure"

    observation: Mapped[str] = mapped_column(String(32), primary_key=True)
    exposure_type: Mapped[str] = mapped_column(String(8), primary_key=True)
    exposure: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    detector: Mapped[str] = mapped_column(String(8), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))


class Artifact(Table):
    """An object of the store whose bytes were verified."""

    __tablename__ = "artifact"
    __table_args__ = (UniqueConstraint("key", "sha256"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    key: Mapped[str] = mapped_column(String(512))
    sha256: Mapped[str] = mapped_column(String(SHA256_LENGTH), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16))
    last_verified_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Product(Table):
    """One version of a product, or one read.

    `version` is the job hash; a read, which is taken and not made, has its SHA-256 there. `unit_*` is the direction
    of the footprint's centre and `radius_sin`, `radius_cos` belong to half of its radius: with them the distance on
    the sky is tested exactly by arithmetic that every database has. `announced_at`, `stored_at` and `spent` are of its
    first telling (None in rows of before they were kept); what is told again does not change them.
    """

    __tablename__ = "product"
    __table_args__ = (
        UniqueConstraint("product_id", "version"),
        Index("ix_product_observation_exposure", "observation", "exposure", "detector"),
        Index("ix_product_photons_end_product_id_version", "photons_end", "product_id", "version"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    artifact_id: Mapped[int] = mapped_column(RowId, ForeignKey("artifact.id"), unique=True)
    product_id: Mapped[str] = mapped_column(String(96))
    version: Mapped[str] = mapped_column(String(SHA256_LENGTH))
    inputs_hash: Mapped[str | None] = mapped_column(String(SHA256_LENGTH))
    level: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    observation: Mapped[str] = mapped_column(String(32))
    program: Mapped[str] = mapped_column(String(16))
    exposure_type: Mapped[str] = mapped_column(String(8))
    exposure: Mapped[int]
    detector: Mapped[str] = mapped_column(String(8))
    night: Mapped[date]
    mode: Mapped[str | None] = mapped_column(String(8))
    filter: Mapped[str | None] = mapped_column(String(32))
    sampling_mode: Mapped[str | None] = mapped_column(String(8))
    photons_end: Mapped[datetime] = mapped_column(UtcDateTime)
    reads_used: Mapped[int]
    reads_expected: Mapped[int]
    crds_context: Mapped[str | None] = mapped_column(String(64))
    software_version: Mapped[str | None] = mapped_column(String(64))
    quality: Mapped[dict[str, float]] = mapped_column(JSON)
    ra_deg: Mapped[float | None]
    dec_deg: Mapped[float | None]
    radius_deg: Mapped[float | None] = mapped_column(index=True)
    healpix: Mapped[int | None] = mapped_column(BigInteger, index=True)
    unit_x: Mapped[float | None]
    unit_y: Mapped[float | None]
    unit_z: Mapped[float | None]
    radius_sin: Mapped[float | None]
    radius_cos: Mapped[float | None]
    announced_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    stored_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    spent: Mapped[str | None] = mapped_column(String(400))
    conflicted: Mapped[bool]
    current: Mapped[bool]

    artifact: Mapped[Artifact] = relationship(lazy="raise")


class Provenance(Table):
    """An input of a product, named by its content: it may be catalogued later than what was made of it."""

    __tablename__ = "provenance"

    product_row: Mapped[int] = mapped_column(RowId, ForeignKey("product.id"), primary_key=True)
    role: Mapped[str] = mapped_column(String(32), primary_key=True)
    input_sha256: Mapped[str] = mapped_column(String(SHA256_LENGTH), primary_key=True, index=True)
    input_product_id: Mapped[str] = mapped_column(String(96))


class Header(Table):
    """The headers of an object, as JSON with the byte offset of each HDU's data."""

    __tablename__ = "header"

    artifact_id: Mapped[int] = mapped_column(RowId, ForeignKey("artifact.id"), primary_key=True)
    hdus: Mapped[list[dict[str, object]]] = mapped_column(JSON)

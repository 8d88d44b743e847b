"""Settings of the archive."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ArchiveSettings(BaseSettings):
    """Read once, in `main`, from the environment (prefix ``IRIS_ARCHIVE_``)."""

    model_config = SettingsConfigDict(env_prefix="IRIS_ARCHIVE_", frozen=True, extra="ignore")

    catalogue_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the catalogue; by default catalogue.sqlite in the data directory"
    )

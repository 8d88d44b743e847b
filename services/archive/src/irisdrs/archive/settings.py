"""Settings of the archive."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ArchiveSettings(BaseSettings):
    """Read once, in `main`, from the environment (prefix ``IRIS_ARCHIVE_``)."""

    model_config = SettingsConfigDict(env_prefix="IRIS_ARCHIVE_", frozen=True, extra="ignore")

    catalogue_url: str | None = Field(
        default=None, description="SQLAlchemy URL of the catalogue; by default catalogue.sqlite in the data directory"
    )
    reconcile_every_s: float = Field(
        default=60.0, gt=0, description="From one look at the observations that are under way to the next, seconds"
    )
    reconcile_first_s: float = Field(
        default=5.0, ge=0, description="From the start of the service to the first look, seconds"
    )
    reconcile_confirm_s: float = Field(
        default=20.0, ge=0, description="After this time, seconds, what was found missing is looked at again"
    )
    reconcile_all_every_s: float = Field(
        default=86_400.0, gt=0, description="From one look at all observations to the next, seconds"
    )

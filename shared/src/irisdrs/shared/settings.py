"""Settings of a host: read once, in its `main`, from the environment (prefix ``IRIS_``), and passed on."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class HostSettings(BaseSettings):
    """What the process that runs services needs to know; every service adds settings of its own."""

    model_config = SettingsConfigDict(env_prefix="IRIS_", frozen=True, extra="ignore")

    data_dir: Path = Field(default=Path("data"), description="Store, catalogue, CRDS cache and scratch live here")
    archive_host: str = Field(default="127.0.0.1", description="Address of page, REST and event intake")
    archive_port: int = Field(default=8080, ge=0, le=65535, description="Port of page, REST and event intake")
    threads: int = Field(default=0, ge=0, description="Threads for heavy work; 0: one for each core")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "console", "json"] = Field(default="auto", description="auto: console on a terminal")

    @property
    def store_dir(self) -> Path:
        """Root of the directory store."""
        return self.data_dir / "store"

    @property
    def crds_dir(self) -> Path:
        """Root of the CRDS cache (`CRDS_PATH`)."""
        return self.data_dir / "crds"

    @property
    def archive_url(self) -> str:
        """Where the archive answers."""
        return f"http://{self.archive_host}:{self.archive_port}"

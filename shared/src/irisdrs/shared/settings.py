"""Settings of a host: read once, in its `main`, from the environment (prefix ``IRIS_``), and passed on."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

#: Bytes of references that are kept of a CRDS server unless set otherwise.
CACHE_BYTES = 200_000_000_000


class HostSettings(BaseSettings):
    """What the process that runs services needs to know; every service adds settings of its own."""

    model_config = SettingsConfigDict(env_prefix="IRIS_", frozen=True, extra="ignore")

    data_dir: Path = Field(default=Path("data"), description="Store, catalogue, CRDS cache and scratch live here")
    amqp_url: SecretStr | None = Field(
        default=None, description="RabbitMQ, amqp://user:password@host:port/vhost; without it the bus is in memory"
    )
    store_url: str | None = Field(
        default=None,
        description="S3 bucket, s3+https://host:port/bucket (s3+http:// on a private network); "
        "without it the store is a directory in data_dir",
    )
    store_access_key: SecretStr | None = Field(default=None, description="Access key of the S3 store")
    store_secret_key: SecretStr | None = Field(default=None, description="Secret key of the S3 store")
    store_region: str = Field(default="us-east-1", description="Region that requests to the S3 store are signed for")
    crds_url: str | None = Field(
        default=None, description="Where crds_proxy answers; without it references come from the cache in data_dir"
    )
    crds_host: str = Field(default="127.0.0.1", description="Address where crds_proxy answers")
    crds_port: int = Field(default=8081, ge=0, le=65535, description="Port where crds_proxy answers")
    crds_upstream: str | None = Field(
        default=None,
        description="CRDS server (as in CRDS_SERVER_URL) in front of which crds_proxy stands; "
        "without it contexts and references are those of the store",
    )
    crds_cache_bytes: int = Field(
        default=CACHE_BYTES, gt=0, description="Bound of the references that crds_proxy keeps of crds_upstream"
    )
    health_host: str = Field(default="127.0.0.1", description="Address of health and metrics of a service process")
    health_port: int = Field(default=0, ge=0, le=65535, description="Port of health and metrics; 0: any free one")
    archive_host: str = Field(default="127.0.0.1", description="Address of page, REST and event intake")
    archive_port: int = Field(default=8080, ge=0, le=65535, description="Port of page, REST and event intake")
    archive_names: str = Field(
        default="",
        description="More names under which others reach an embedded system, separated by commas; "
        "loopback and archive_host are two anyway, and a request under any other name is refused",
    )
    spool_dir: Path | None = Field(default=None, description="Spool of the edge, on a local disk; default: in data_dir")
    spool_max_bytes: int = Field(
        default=200_000_000_000, gt=0, description="Bound of a spool; 30 minutes at full load are 165 GB compressed"
    )
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
    def names(self) -> tuple[str, ...]:
        """Those of `archive_names`."""
        return tuple(name.strip() for name in self.archive_names.split(",") if name.strip())

    def spool_of(self, observation: str) -> Path:
        """Where the edge spools an observation."""
        return (self.spool_dir or self.data_dir / "spool") / observation

    @property
    def archive_url(self) -> str:
        """Where the archive answers."""
        return f"http://{self.archive_host}:{self.archive_port}"

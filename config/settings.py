"""Settings: where and how a run works. Built in the body of a flow or a command, never at import."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from config.errors import UserError
from config.toml import parse

CONFIG_FILE = "modalign.toml"


class Settings(BaseSettings):
    """Read from the environment (`MODALIGN_…`), `.env` and the table `[settings]` of modalign.toml, in this order."""

    model_config = SettingsConfigDict(
        env_prefix="MODALIGN_", env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    workspace: Path = Field(Path("modalign-data"), description="Folder of tables, spaces, results cache and reports.")
    tables_uri: str | None = Field(
        None, description="LanceDB URI of the tables; without it workspace/tables.", examples=["s3://bucket/tables"]
    )
    profile: str = Field("small", description="Params by name, or a TOML file.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where encoders run.")
    threads: int | None = Field(
        None, ge=1, description="Bound on the CPUs an encoder uses; without it all of them.", examples=[2]
    )
    runner: Literal["thread", "dask", "ray"] = Field(
        "thread", description="Who preprocesses and encodes shards: this process, or workers of Dask or Ray."
    )
    workers: int = Field(
        2, ge=1, description="Worker processes that Dask or Ray starts here; they share the CPUs among themselves."
    )
    address: str | None = Field(
        None,
        description="A cluster of Dask or Ray that is there already, in place of workers here.",
        examples=["tcp://10.0.0.5:8786", "ray://10.0.0.5:10001"],
    )
    wait: float = Field(600.0, ge=0, description="Seconds that a writer waits for another one of the same workspace.")
    metrics_file: Path | None = Field(
        None,
        description="Where a run leaves its metrics for Prometheus' node_exporter; without it workspace/metrics.prom.",
        examples=["/var/lib/node_exporter/modalign.prom"],
    )
    token: SecretStr | None = Field(
        None, description="What `modalign serve` asks of every caller; better in the environment.", examples=["…"]
    )
    max_upload: int = Field(
        32_000_000, ge=1_000, description="Largest body of a request to `modalign serve`, in bytes."
    )

    @field_validator("workspace")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @field_validator("tables_uri")
    @classmethod
    def _open(cls, uri: str | None) -> str | None:
        """A URI is shown, stored and deployed: no place for a secret."""
        if uri is not None and "://" in uri and ("@" in uri or "?" in uri):
            raise UserError(
                "MODALIGN_TABLES_URI must be a bucket and a folder alone",
                "give credentials in the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )
        return uri

    @property
    def abreast(self) -> int:
        """Shards that are worked on at a time here; of a cluster's nobody knows."""
        return 1 if self.runner == "thread" or self.address else self.workers

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the name is pydantic-settings' own
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, `.env`, and the file."""
        return init_settings, env_settings, dotenv_settings, _SettingsTable(settings_cls, Path(CONFIG_FILE))


class _SettingsTable(TomlConfigSettingsSource):
    """The table [settings] of modalign.toml; its other tables are params. An unknown setting is an error."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        table: dict[str, Any] = parse(file_path.read_text(encoding="utf-8"), CONFIG_FILE).get("settings", {})
        known = Settings.model_fields
        for name in table:
            if name not in known:
                raise UserError(f"setting {name!r} in {CONFIG_FILE} is not known", f"known: {', '.join(known)}")
        return table

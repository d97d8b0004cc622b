"""The server's configuration: flags win over environment variables, those over a TOML file, that over defaults."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ByteSize, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from samplecache.cache import CacheSettings
from samplecache.clock import NS_PER_S
from samplecache.errors import ConfigurationError

DEFAULT_LISTEN = "127.0.0.1:50380"


class KernelName(enum.StrEnum):
    """Which kernel is under the cache."""

    LINUX = "linux"
    SIMULATED = "simulated"


class ServerConfig(BaseSettings):
    """All that can be configured. Sizes take suffixes (``64MiB``); every field is also ``SAMPLECACHE_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="SAMPLECACHE_", extra="forbid", frozen=True)

    listen: Annotated[tuple[str, ...], NoDecode] = Field(
        (DEFAULT_LISTEN,), min_length=1, description="Addresses: host:port (0 picks a port) or unix:PATH."
    )
    kernel: KernelName = Field(KernelName.LINUX, description="linux or simulated.")
    device: str = Field("hdd-laptop-2008", description="Device of the simulated kernel, or a machine's file: *.toml.")
    memory: ByteSize = Field(ByteSize(256 << 20), description="Memory of the simulated kernel.")
    swap: ByteSize = Field(ByteSize(1 << 30), description="Swap of the simulated kernel.")
    seed: int = Field(0, description="Seed of the simulated kernel.")
    budget: ByteSize = Field(ByteSize(1 << 30), description="The most that all samples may take.")
    lock_budget: ByteSize | None = Field(None, description="The most to lock; default RLIMIT_MEMLOCK less a reserve.")
    lock_server: bool = Field(
        False, description="Whether to lock the server's own memory, samples apart: some 60 MiB. Needs CAP_IPC_LOCK."
    )
    trigger_lock: ByteSize | None = Field(
        None, description="The most to lock for heads of trigger samples; default three quarters of lock_budget."
    )
    trigger_warm: ByteSize = Field(
        ByteSize(4 << 20), description="The most of their heads to keep in RAM without a lock."
    )
    prefetch_budget: ByteSize | None = Field(
        None, description="The most to bring in ahead; default a quarter of available memory, at least 16 MiB."
    )
    max_samples: int = Field(100_000, ge=1, description="The most samples.")
    max_sessions: int = Field(256, ge=1, description="The most playback sessions at a time.")
    max_prefetches: int = Field(1024, ge=1, description="The most prefetches at a time.")
    max_uploads: int = Field(16, ge=1, description="The most uploads at a time, resumable ones included.")
    max_cues: int = Field(1024, ge=1, description="The most cues announced at a time, over all schedules.")
    max_upload: ByteSize = Field(ByteSize(256 << 20), description="The largest upload.")
    max_decoded: ByteSize = Field(ByteSize(512 << 20), description="The largest sample once decoded.")
    upload_ttl_s: float = Field(
        60.0, gt=0, allow_inf_nan=False, description="How long an interrupted resumable upload is kept."
    )
    workers: int = Field(1, ge=1, le=64, description="Processes that stream: about one for each core to be used.")
    prefetch_threads: int = Field(4, ge=1, le=64, description="Threads that carry out prefetches.")
    readers: int = Field(16, ge=1, le=256, description="Threads that read blocks whose pages are not in RAM.")
    default_strategy: str = Field("willneed", description="Strategy for requests and samples that name none.")
    spool_dir: Path | None = Field(None, description="Where uploads are spooled; default the temporary directory.")
    metrics_port: int | None = Field(None, ge=0, le=65535, description="Port for Prometheus on localhost; 0 picks one.")
    token_file: Path | None = Field(None, description="File with the token that clients must send.")
    tls_cert: Path | None = Field(None, description="PEM certificate chain; needs tls_key.")
    tls_key: Path | None = Field(None, description="PEM private key; needs tls_cert.")
    grace_s: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="How long streams may play on after SIGTERM or SIGINT."
    )

    @field_validator("listen", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        # In the environment several addresses are one string.
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.workers > 1 and self.kernel is not KernelName.LINUX:
            raise ValueError(
                "workers share the memory of one process, which the simulated kernel does not have; give 1"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave out .env and secret files: nobody expects a server to read what lies about."""
        return init_settings, env_settings

    @classmethod
    def load(cls, file: Path | None = None, **flags: object) -> ServerConfig:
        """Return the configuration from `file`, the environment and `flags`; those that are None were not given.

        Raises
        ------
        ConfigurationError
            A value is wrong or unknown, or the file cannot be read; names it and says what is allowed.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            if file and not file.is_file():
                raise FileNotFoundError(f"there is no file {file}")
            from_file = TomlConfigSettingsSource(cls, file)() if file else {}
            # The environment stands between file and flags, so what it sets is taken out of the file's values.
            from_env = EnvSettingsSource(cls)()
            merged: dict[str, Any] = {**from_file, **from_env, **given}
            return cls(**merged)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "the configuration"
            raise ConfigurationError(
                f"{name}: {first['msg']}", remedy="See 'samplecache serve --help' for what is allowed", setting=name
            ) from error
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"the configuration cannot be read: {error}", remedy="Give a readable TOML file to --config"
            ) from error

    def cache_settings(self) -> CacheSettings:
        """Return the part that the cache wants."""
        return CacheSettings(
            budget_bytes=self.budget,
            lock_budget_bytes=self.lock_budget,
            trigger_lock_bytes=self.trigger_lock,
            trigger_warm_bytes=self.trigger_warm,
            prefetch_budget_bytes=self.prefetch_budget,
            max_samples=self.max_samples,
            max_sessions=self.max_sessions,
            max_prefetches=self.max_prefetches,
            max_uploads=self.max_uploads,
            max_cues=self.max_cues,
            max_upload_bytes=self.max_upload,
            max_decoded_bytes=self.max_decoded,
            upload_ttl_ns=int(self.upload_ttl_s * NS_PER_S),
            workers=self.prefetch_threads,
            default_strategy=self.default_strategy,
            spool_dir=str(self.spool_dir) if self.spool_dir else None,
        )

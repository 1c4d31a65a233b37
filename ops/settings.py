"""Every setting, from `HEADRACE_*` variables or `headrace.toml` in the working directory."""

import re
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from processors.enrich.catalog import Enriching, Enrichment
from processors.enrich.privacy import PRIVACY_KEY_BYTES, Action, PrivacyPolicy
from schemas.exposure_rule import ExposureRule
from schemas.kafka import KafkaConnection
from schemas.limits import CLAIMS_WINDOW_MS, IDENTITY_LINKS, SPILL_BYTES
from schemas.loopback import is_loopback
from schemas.store import StoreAddress

CONFIG_FILE: Final = "headrace.toml"

_BROKER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,/\[\]]+):(\d{1,5})")


class Settings(BaseSettings):
    """One model for every process. Variables win over the file, the file over the defaults."""

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", toml_file=CONFIG_FILE, extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address the gateway and the console listen on.")
    gateway_port: int = Field(8080, ge=1, le=65535, description="Port that SDKs send to.")
    console_port: int = Field(8090, ge=1, le=65535, description="Port of the console and its API.")
    admin_host: str = Field("127.0.0.1", description="Address of the admin ports.")
    admin_port_base: int = Field(
        9464, ge=1, le=65530, description="Admin ports: gateway +0, worker +1, lander or store +2, console +3."
    )
    data_dir: Path = Field(Path(".headrace"), description="Where the local stack keeps log, store and its own logs.")
    cache_dir: Path = Field(
        Path("~/.cache/headrace"), description="Where downloaded parts (the broker's jars) are kept between stacks."
    )

    kafka_bootstrap: str = Field(
        "", description="host:port[,host:port] of a Kafka cluster. Empty: the local broker that `headrace up` starts."
    )
    kafka_port: int = Field(
        9092, ge=1, le=65534, description="Port of the local broker; its controller is on the next."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
    )
    kafka_sasl_username: str = Field("", description="User name for SASL.")
    kafka_sasl_password: str = Field("", description="Password for SASL.")
    kafka_ssl_ca_file: str = Field("", description="CA certificates to trust, PEM.")
    partitions: int = Field(4, ge=1, le=1024, description="Partitions of events.raw when it is created.")

    clickhouse: str = Field(
        "", description="http[s]://user:password@host:port/database. Empty: the engine inside `headrace store`."
    )

    linger_ms: float = Field(3.0, ge=0, le=100, description="How long the gateway gathers events for one chunk.")
    alias_paths: list[str] = Field([], description="More paths that take log requests, for clients behind ad-blockers.")
    cors_origins: list[str] = Field(["*"], description="Origins that browsers may send from.")

    otlp_exposures: str = Field(
        "",
        description="Which feature flag evaluations that come over OTLP are exposures: `all`, or reasons like"
        " `split,targeting_match`. Empty: none.",
    )

    spill_dir: str = Field(
        "",
        description="Folder of this gateway alone in which it keeps events while Kafka is away. Empty: it answers 503.",
    )
    spill_max_bytes: int = Field(SPILL_BYTES, ge=1, description="Bytes of events that are kept there at the most.")

    claims_window_ms: int = Field(CLAIMS_WINDOW_MS, ge=1000, description="How long a copy of an event is recognised.")
    burst_guard: bool = Field(
        True,
        description="Stop a partition when 200 events in a row fail through us. false: they become dead letters.",
    )
    worker_instance: str = Field("0", description="Slot of this worker; one fixed name each makes restarts fast.")
    enrich_off: list[Enrichment] = Field(
        [], description=f"Enrichments that the worker leaves out: {', '.join(Enrichment)} (docs/config.md)."
    )
    stale_after_ms: int = Field(
        60_000, ge=0, description="How long SDKs may decide by the version before, once a newer one is known here."
    )
    privacy: dict[str, Action] = Field(
        {},
        description='What is stored of users, by field: `{"email": "hash", "custom.*": "drop"}` (docs/privacy.md).',
    )
    privacy_key: str = Field("", repr=False, description="Key of the hashes that `privacy` asks for; 16 to 64 bytes.")
    audit_rate: float = Field(
        1.0, ge=0, le=1, description="Share of exposures whose assignment is computed again and compared."
    )
    identity_links: int = Field(
        IDENTITY_LINKS, ge=2, description="Links of ids to users that a worker keeps in memory; some 320 bytes each."
    )
    lander_batch_rows: int = Field(20_000, ge=1, description="Rows of one insert at the most.")
    lander_batch_ms: int = Field(500, ge=1, description="How long rows wait for an insert at the most.")

    archive: str = Field(
        "",
        description="Where chunks are kept beyond Kafka's retention: a folder, or"
        " s3://bucket/prefix?endpoint_override=host:port. Empty: nowhere (docs/archive.md).",
    )
    archive_file_s: float = Field(300, gt=0, description="How long a chunk waits for its archive file at the most.")

    allowed_hosts: list[str] = Field(
        [], description="Names besides localhost under which a console on a loopback address may be asked for."
    )
    console_keys: Literal["auto", "required"] = Field(
        "auto", description="When the console asks for a console key. auto: when HEADRACE_HOST is no loopback address."
    )
    console_url: str = Field("", description="Where the command line finds the console. Empty: this machine's.")
    console_key: str = Field("", description="Console key that the command line sends.")
    project: str = Field("default", description="Project that commands work on.")
    log_level: Literal["debug", "info", "warning", "error", "critical"] = Field(
        "info", description="debug, info, warning, error or critical."
    )

    @field_validator("privacy")
    @classmethod
    def _of_fields(cls, asked: dict[str, Action]) -> dict[str, Action]:
        PrivacyPolicy.of(asked, "x" * max(PRIVACY_KEY_BYTES))
        return asked

    @field_validator("privacy_key")
    @classmethod
    def _fits(cls, key: str, info: ValidationInfo) -> str:
        PrivacyPolicy.of(info.data.get("privacy", {}), key)
        return key

    @field_validator("data_dir", "cache_dir")
    @classmethod
    def _without_tilde(cls, path: Path) -> Path:
        return path.expanduser()

    @field_validator("kafka_bootstrap")
    @classmethod
    def _of_brokers(cls, addresses: str) -> str:
        for address in addresses.split(",") if addresses else ():
            if _BROKER.fullmatch(address) is None:
                raise ValueError(f"{address!r} is no host:port")
        return addresses

    @field_validator("otlp_exposures")
    @classmethod
    def _a_rule(cls, text: str) -> str:
        ExposureRule.of(text)
        return text

    @field_validator("clickhouse")
    @classmethod
    def _of_a_server(cls, url: str) -> str:
        # The address holds a password, so that it is not repeated in the error.
        wrong = "must be http[s]://[user:password@]host[:port][/database]"
        try:
            parts = urlsplit(url)
            is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise ValueError(wrong) from None
        if url and not is_server:
            raise ValueError(wrong)
        return url

    @field_validator("archive")
    @classmethod
    def _a_place(cls, location: str) -> str:
        scheme, sign, rest = location.partition("://")
        if sign and not (scheme == "s3" and rest):
            raise ValueError("must be a folder, or s3://bucket/prefix")
        return location

    @field_validator("kafka_ssl_ca_file")
    @classmethod
    def _readable(cls, path: str) -> str:
        if path and not Path(path).is_file():
            raise ValueError(f"there is no file {path}")
        return path

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the file behind the variables."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def has_local_broker(self) -> bool:
        """Whether the log is the broker that the local stack starts."""
        return not self.kafka_bootstrap

    @property
    def kafka(self) -> KafkaConnection:
        """How to reach Kafka."""
        return KafkaConnection(
            bootstrap=self.kafka_bootstrap or f"127.0.0.1:{self.kafka_port}",
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism,
            sasl_username=self.kafka_sasl_username,
            sasl_password=self.kafka_sasl_password,
            ssl_ca_file=self.kafka_ssl_ca_file,
        )

    @property
    def store(self) -> StoreAddress:
        """How to reach the store."""
        return StoreAddress(url=self.clickhouse) if self.clickhouse else StoreAddress(path=self.data_dir / "store")

    @property
    def enriching(self) -> Enriching:
        """How exposures are enriched."""
        return Enriching(
            off=frozenset(self.enrich_off),
            stale_after_ms=self.stale_after_ms,
            audit_rate=self.audit_rate,
            privacy=PrivacyPolicy.of(self.privacy, self.privacy_key),
        )

    @property
    def spill_folder(self) -> Path | None:
        """Where the gateway keeps events while Kafka is away, if it does."""
        return Path(self.spill_dir).expanduser().resolve() if self.spill_dir else None

    @property
    def console_address(self) -> str:
        """Base URL of the console's API."""
        return self.console_url.rstrip("/") or f"http://127.0.0.1:{self.console_port}"

    @property
    def asks_for_console_keys(self) -> bool:
        """Whether whoever reads through the console needs a console key."""
        return self.console_keys == "required" or not is_loopback(self.host)

    def admin_port(self, process: str) -> int:
        """Return the admin port of `gateway`, `worker`, `lander`, `store` or `console`."""
        return self.admin_port_base + {"gateway": 0, "worker": 1, "lander": 2, "store": 2, "console": 3}[process]


def load() -> Settings:
    """Read the settings. Raises ValueError with a line per setting that is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"HEADRACE_{'_'.join(str(p) for p in e['loc']).upper()}: {e['msg']}" for e in error.errors()]
        raise ValueError("\n".join(lines)) from error

"""The registry's settings."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from everloop_models.batch.allowed import BatchSettings
from everloop_registry.domain.artifact_paths import FileLimits
from everloop_registry.domain.tracking import TrackingLimits
from everloop_shared.database import sqlite_url
from everloop_shared.errors import Misconfigured

MAX_URL_CHARACTERS = 400


class RegistrySettings(BatchSettings):
    """The registry's settings; each is read from `EVERLOOP_REGISTRY_<NAME>`."""

    database_url: str = Field(
        "", description="postgresql://… (its tables go to schema registry); empty: SQLite under the data folder"
    )
    max_spec_bytes: int = Field(256_000, ge=1_000, le=400_000, description="largest loop file accepted, in bytes")
    max_loops: int = Field(1_000, ge=1, description="loops there may be at a time; one more is refused with 409")
    max_changes_per_hour: int = Field(
        100, ge=1, description="applications, rollbacks or resumes of one loop within an hour; more answer 429"
    )
    light_check_bytes: int = Field(
        2_000_000, ge=0, description="a refresh above this is not loaded again, only its size and sha256 are checked"
    )
    max_experiments: int = Field(1_000, ge=2, description="experiments there may be, those of loops included")
    max_runs: int = Field(100_000, ge=1, description="runs that an experiment may have")
    max_run_metrics: int = Field(1_000_000, ge=1, description="values of metrics that a run may have")
    max_run_parameters: int = Field(2_000, ge=1, description="parameters, and tags, that a run may have")
    max_run_files: int = Field(1_000, ge=1, description="files that a run, or a logged model, may have")
    max_run_bytes: int = Field(2_000_000_000, ge=1_000, description="bytes of all files of a run, or a logged model")
    mlflow_mirror: str = Field(
        "",
        pattern=r"^(https?://[^\s@?#]+)?$",
        description="http(s)://... of an MLflow server that versions, aliases and runs are copied to; empty: none",
    )
    mlflow_mirror_token: SecretStr = Field(
        SecretStr(""), description="what the server of the mirror asks for: a token, or USER:PASSWORD"
    )
    mlflow_mirror_token_file: Path | None = Field(None, description="file that holds it, in place of the setting")
    openlineage_url: str = Field(
        "",
        repr=False,
        description="http(s)://... of a lineage backend that is told of runs, versions and rollouts; empty: none",
    )
    openlineage_api_key: SecretStr = Field(SecretStr(""), description="what that backend asks for, as a bearer token")
    openlineage_api_key_file: Path | None = Field(None, description="file that holds it, in place of the setting")
    openlineage_namespace: str = Field(
        "everloop", pattern=r"^[!-~]{1,90}$", description="namespace of the installation's jobs at that backend"
    )
    archive: str = Field("", description="URL of the archive, as training has it: what lineage calls its tables")
    settle_s: float = Field(
        0.1, ge=0, le=10, description="pause after a transaction that comes right after another, in seconds"
    )

    @property
    def tracking_limits(self) -> TrackingLimits:
        """How much MLflow's clients may log."""
        return TrackingLimits(
            experiments=self.max_experiments,
            runs=self.max_runs,
            models=self.max_runs,
            metrics=self.max_run_metrics,
            parameters=self.max_run_parameters,
        )

    @property
    def file_limits(self) -> FileLimits:
        """What a run, or a logged model, may have."""
        return FileLimits(self.max_run_files, self.max_run_bytes)

    @property
    def mirror_token(self) -> str:
        """The credentials of the mirror; raises Misconfigured where their file cannot be read."""
        file, variable = self.mlflow_mirror_token_file, "EVERLOOP_REGISTRY_MLFLOW_MIRROR_TOKEN_FILE"
        return _secret(file, variable) if file else self.mlflow_mirror_token.get_secret_value()

    @property
    def lineage_backend(self) -> tuple[str, str]:
        """URL and key of the lineage backend; raises Misconfigured, which shows neither credentials nor key."""
        problem = _url_problem(self.openlineage_url)
        if problem is not None:
            raise Misconfigured(f"EVERLOOP_OPENLINEAGE_URL: {problem}")
        file, given = self.openlineage_api_key_file, self.openlineage_api_key.get_secret_value()
        key = _secret(file, "EVERLOOP_OPENLINEAGE_API_KEY_FILE") if file else given
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise Misconfigured("EVERLOOP_OPENLINEAGE_API_KEY: a key has printable ASCII characters without spaces")
        return self.openlineage_url, key

    @property
    def database(self) -> str:
        """The database's URL; makes the folder of the default one."""
        return self.database_url or sqlite_url(self.folder("registry") / "registry.db")


def _secret(file: Path, variable: str) -> str:
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise Misconfigured(f"{variable}: {file} cannot be read ({getattr(e, 'strerror', 'no text')})") from e


def _url_problem(url: str) -> str | None:
    """What to write instead of a URL that names no backend; it may hold a password, and is not repeated."""
    try:
        parts, _ = (found := urlsplit(url)), found.port
    except ValueError:
        return "write http://HOST:PORT or https://HOST of an OpenLineage backend"
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
        return "write http://HOST:PORT or https://HOST of an OpenLineage backend"
    if parts.username is not None or parts.password is not None:
        return "write it without credentials, and set EVERLOOP_OPENLINEAGE_API_KEY"
    if parts.query or parts.fragment or " " in url or len(url) > MAX_URL_CHARACTERS:
        return f"write it without query, fragment and spaces, with {MAX_URL_CHARACTERS} characters at most"
    return None

"""The settings of monitoring."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from everloop_shared.errors import Misconfigured
from everloop_shared.settings import Settings


class MonitoringSettings(Settings):
    """Settings of monitoring, from `EVERLOOP_MONITORING_*` and `EVERLOOP_*`."""

    batch_size: int = Field(2000, ge=1, le=10_000, description="records handled between two commits, at most")
    database_url: str = Field(
        "", description="postgresql://… (its tables go to schema monitoring); empty: SQLite below the data folder"
    )
    gauges_every_s: float = Field(5.0, gt=0, description="how often the Prometheus gauges are renewed, in seconds")
    settle_s: float = Field(
        0.2,
        ge=0,
        le=10,
        description="pause after a transaction that comes right after another, in seconds",
    )
    receivers: Path | None = Field(None, description="YAML file of those who are told of alerts; none: the topic alone")
    console_url: str = Field(
        "", pattern=r"^(https?://[^\s@?#]+)?$", description="address of the console, for links in messages; empty: none"
    )
    ingest_url: str = Field(
        "",
        pattern=r"^(https?://[^\s@?#]+)?$",
        description="address of ingest, by which the console sends dead letters again; empty: it names the command",
    )
    registry_url: str = Field(
        "",
        pattern=r"^(https?://[^\s@?#]+)?$",
        description="address of the registry, to which the console gives what people say about candidates",
    )
    auth_client_id: str = Field(
        "",
        max_length=500,
        description="the console as a client of the OIDC provider; empty: it takes keys alone",
    )
    auth_client_secret_file: Path | None = Field(
        None, description="file with the secret of a confidential client; none: a public client, by PKCE alone"
    )
    auth_client_scope: str = Field("openid", pattern=r"^[ -~]{1,500}$", description="what is asked of the provider")
    session_idle_s: float = Field(1_800.0, ge=60, description="a session ends after so long without requests")
    session_s: float = Field(43_200.0, ge=60, description="a session of the console ends after so long, in seconds")
    alert_repeat_s: float = Field(14_400.0, ge=60, description="an alert that goes on is told again after so long")
    alert_gather_s: float = Field(
        5.0, ge=0, le=300, description="wait for further alerts of a loop before receivers are told, in seconds"
    )
    alerts_every_s: float = Field(15.0, gt=0, le=300, description="how often alerts are looked at without records")

    def check_sign_in(self) -> None:
        """Raises Misconfigured where the console could not sign in at the provider."""
        if not self.auth_client_id:
            return
        if not self.auth_issuer:
            raise Misconfigured("EVERLOOP_AUTH_CLIENT_ID: EVERLOOP_AUTH_ISSUER says at which provider")
        if not self.console_url:
            raise Misconfigured(
                "EVERLOOP_AUTH_CLIENT_ID: EVERLOOP_MONITORING_CONSOLE_URL says where the provider sends browsers back "
                "to: register CONSOLE_URL/sign-in there"
            )

    @property
    def alert_repeat(self) -> timedelta:
        """`alert_repeat_s` as a duration."""
        return timedelta(seconds=self.alert_repeat_s)

"""The operator's file of receivers: who is told of which alerts, and where their secrets are."""

from __future__ import annotations

import os
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from everloop_monitoring.domain.timeline import Severity
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.errors import FieldError, Misconfigured
from everloop_shared.yaml_core import read_yaml

VARIABLE = "EVERLOOP_MONITORING_RECEIVERS"
MAX_FILE_BYTES, MAX_SECRET_BYTES = 256_000, 10_000
MAX_RECEIVERS = 50
Url = Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=2000)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Address = Annotated[str, Field(pattern=r"^[^\s@<>,;]+@[^\s@<>,;]+$", max_length=254)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Secret(_Part):
    """Where a secret is: in a file, or in a variable of the environment. It is read each time that it is used."""

    file: Path | None = None
    env: Variable | None = None

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("needs either file or env")
        return self

    def read(self) -> str:
        """The secret without the space around it; raises Misconfigured, which does not quote it."""
        if self.env is not None:
            found = os.environ.get(self.env, "").strip()
            where = f"variable {self.env}"
        else:
            assert self.file is not None, "validated"
            where = str(self.file)
            try:
                found = self.file.read_bytes()[:MAX_SECRET_BYTES].decode().strip()
            except (OSError, UnicodeDecodeError) as e:
                raise Misconfigured(f"{VARIABLE}: {where} cannot be read ({type(e).__name__})") from e
        if not found:
            raise Misconfigured(f"{VARIABLE}: {where} is empty")
        return found


class SlackSpec(_Part):
    """A Slack channel, by the address of its incoming webhook, which is a secret."""

    url: Secret


class WebhookSpec(_Part):
    """Any address that takes JSON by POST; with a secret the messages are signed (Standard Webhooks)."""

    url: Url
    secret: Secret | None = None


class AlertmanagerSpec(_Part):
    """An Alertmanager, by the address below which `/api/v2/alerts` is."""

    url: Url


class EmailSpec(_Part):
    """Addresses, and the server that takes messages for them."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]+$", max_length=253)]
    port: int = Field(587, ge=1, le=65535)
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    from_: Address = Field(alias="from")
    to: tuple[Address, ...] = Field(min_length=1, max_length=50)
    user: Annotated[str, Field(max_length=254)] | None = None
    password: Secret | None = None

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("needs both user and password, or neither")
        if self.password is not None and self.tls == "none":
            raise ValueError("tls: a password is not sent without TLS")
        return self


class ReceiverSpec(_Part):
    """One receiver, of exactly one kind, with the loops (`*` and `?` match) and the severities that it is told of."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
    loops: tuple[str, ...] = ("*",)
    severity: tuple[Severity, ...] = ("info", "warning", "critical")
    slack: SlackSpec | None = None
    webhook: WebhookSpec | None = None
    alertmanager: AlertmanagerSpec | None = None
    email: EmailSpec | None = None

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if sum(part is not None for part in (self.slack, self.webhook, self.alertmanager, self.email)) != 1:
            raise ValueError("needs exactly one of slack, webhook, alertmanager and email")
        return self

    def takes(self, event: AlertRaised) -> bool:
        """Whether the receiver is told of an alert."""
        return event.data.severity in self.severity and any(fnmatchcase(event.loop, one) for one in self.loops)

    def secrets(self) -> list[Secret]:
        """The secrets that it needs."""
        found = (
            self.slack.url if self.slack else None,
            self.webhook.secret if self.webhook else None,
            self.email.password if self.email else None,
        )
        return [secret for secret in found if secret is not None]


class ReceiversFile(_Part):
    """The whole file."""

    receivers: tuple[ReceiverSpec, ...] = Field((), max_length=MAX_RECEIVERS)


def read_receivers(file: Path | None) -> tuple[ReceiverSpec, ...]:
    """The receivers of the operator's file; raises Misconfigured, which names each field that is wrong."""
    if file is None:
        return ()
    try:
        raw = file.read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            raise Misconfigured(f"{VARIABLE}: {file} has more than {MAX_FILE_BYTES:,} bytes")
        found = ReceiversFile.model_validate(read_yaml(raw.decode()) or {}).receivers
    except OSError as e:
        raise Misconfigured(f"{VARIABLE}: {file} cannot be read ({e.strerror})") from e
    except ValidationError as e:
        wrong = [FieldError(".".join(map(str, p["loc"])), p["msg"]) for p in e.errors(include_url=False)]
        said = "; ".join(f"{w.field}: {w.error}" for w in wrong)
        raise Misconfigured(f"{VARIABLE}: {file}: {said}", wrong) from e
    except ValueError as e:
        raise Misconfigured(f"{VARIABLE}: {file} is no YAML: {e}") from e
    twice = [name for name, n in Counter(one.name for one in found).items() if n > 1]
    if twice:
        raise Misconfigured(f"{VARIABLE}: {file}: receivers: {twice[0]} is there twice")
    for receiver in found:
        for secret in receiver.secrets():
            secret.read()
    return found

"""The settings of who may do what, which every service has."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from everloop_shared.access.limits import IN_PROGRESS, RATES, Limits
from everloop_shared.access.own_token import OwnToken
from everloop_shared.errors import Misconfigured

ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""What a provider may sign with: with HS256, whoever knows the public key could sign tokens."""


class Provider(NamedTuple):
    """An OIDC provider: who issues tokens, for whom, signed how, and where roles stand in them."""

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    jwks_url: str
    roles_claim: str
    team_claim: str = ""


def _algorithms(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if wrong := [name for name in names if name not in ASYMMETRIC]:
        raise ValueError(f"{wrong[0] or 'an empty name'} is none of {', '.join(ASYMMETRIC)}")
    return ",".join(names)


def provider_url(value: str) -> str:
    """The URL, if what it answers cannot be replaced on the way: https, or http to this machine."""
    parts = urlsplit(value)
    if value and not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))):
        raise ValueError("must be https://HOST, or http:// on this machine")
    return value


def discovered_url(value: str, issuer: str) -> str:
    """An address of the provider's discovery document; raises ValueError where we do not ask there.

    This machine is asked only where the provider is here itself: no document from elsewhere makes us ask what listens
    on loopback.
    """
    host, home = urlsplit(value).hostname or "", urlsplit(issuer).hostname or ""
    if not host or (is_loopback(host) and not is_loopback(home)):
        raise ValueError("must lead to the provider, and not to this machine")
    return provider_url(value)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class AccessSettings(BaseModel):
    """Who may do what (`shared/docs/security.md`)."""

    host: str = Field("127.0.0.1", description="address to listen on")
    published_on: str = Field(
        "", description="address on which others reach a container's port, where it is another than that of `host`"
    )
    auth: Literal["", "off", "on"] = Field(
        "", description="on: every request needs a token; off, the default, only where no other machine reaches it"
    )
    audit: Literal["", "off", "on"] = Field(
        "", description="whether requests and refusals are recorded on the audit's topic; default: as `auth`"
    )
    auth_keys: Path | None = Field(None, description="JSON file of hashed keys and roles; read again when it changes")
    auth_issuer: Annotated[str, AfterValidator(provider_url)] = Field("", description="URL of the OIDC provider")
    auth_audience: str = Field("", description="the audience that tokens of the provider must have")
    auth_algorithms: Annotated[str, AfterValidator(_algorithms)] = Field(
        "RS256", description="how tokens may be signed, separated by commas; asymmetric ones alone"
    )
    auth_jwks_url: Annotated[str, AfterValidator(provider_url)] = Field(
        "", description="where the provider's keys are; empty: as its discovery document says"
    )
    auth_roles_claim: str = Field("roles", description="claim that lists roles, ROLE or ROLE:PATTERN; dots lead inside")
    auth_team_claim: str = Field("", description="claim that names the caller's team; dots lead inside")

    limit_requests_per_s: float = Field(0, ge=0, description="requests a second of one caller; 0: any number")
    limit_rows_per_s: float = Field(0, ge=0, description="rows a second of one caller, sent or predicted; 0: any")
    limit_bytes_per_s: float = Field(0, ge=0, description="bytes of bodies a second of one caller; 0: any number")
    limit_in_progress: int = Field(0, ge=0, description="requests of one caller in progress; 0: any number")
    limit_burst_s: float = Field(2.0, gt=0, le=3_600, description="seconds of a rate that may be used at once")
    limited_callers: int = Field(10_000, ge=1, le=1_000_000, description="callers that are known, at most")

    token: str = Field("", description="what this service sends to another; better in a file", repr=False)
    token_file: Path | None = Field(None, description="file with the token that this service sends to another")

    def own_token(self) -> OwnToken:
        """What this service sends to another."""
        return OwnToken(self.token, self.token_file)

    @property
    def has_access_control(self) -> bool:
        """Whether requests need a token."""
        return self.auth == "on"

    @property
    def has_audit(self) -> bool:
        """Whether requests are recorded."""
        return (self.audit or self.auth) == "on"

    def caller_limits(self) -> Limits | None:
        """How much every caller may ask for; None without a limit."""
        found = {name: getattr(self, f"limit_{name}") for name in (*RATES, IN_PROGRESS)}
        return Limits(**found) if any(found.values()) else None

    @property
    def has_caller_limits(self) -> bool:
        """Whether there are some, or a key could have limits of its own."""
        return self.caller_limits() is not None or (self.has_access_control and self.auth_keys is not None)

    def provider(self) -> Provider:
        """The OIDC provider of the settings."""
        algorithms = tuple(self.auth_algorithms.split(","))
        claims = (self.auth_roles_claim, self.auth_team_claim)
        return Provider(self.auth_issuer, self.auth_audience, algorithms, self.auth_jwks_url, *claims)

    def check_access(self) -> None:
        """Raises Misconfigured where anybody of another machine could do anything, or nobody could do a thing."""
        reachable = self.published_on or self.host
        if not self.has_access_control:
            if not is_loopback(reachable):
                raise Misconfigured(
                    f"EVERLOOP_AUTH: other machines reach {reachable}, so it must be on: everloop keys create makes a "
                    "key, EVERLOOP_AUTH_KEYS names its file. Or listen on 127.0.0.1 (EVERLOOP_HOST); for a container "
                    "whose port is published on 127.0.0.1 alone, EVERLOOP_PUBLISHED_ON says so"
                )
        elif not self.auth_keys and not self.auth_issuer:
            raise Misconfigured(
                "EVERLOOP_AUTH=on needs keys (EVERLOOP_AUTH_KEYS, made by everloop keys create), "
                "or a provider (EVERLOOP_AUTH_ISSUER), or nobody could do a thing"
            )
        elif self.auth_issuer and not self.auth_audience:
            raise Misconfigured("EVERLOOP_AUTH_AUDIENCE: EVERLOOP_AUTH_ISSUER needs it: tokens for others are not ours")

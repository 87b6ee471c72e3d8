"""Settings of the operator, from the environment; the addresses and the token of Everloop are the client's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from everloop_operator.errors import OperatorMisconfigured

PREFIX = "EVERLOOP_OPERATOR_"


class OperatorSettings(BaseModel):
    """`EVERLOOP_OPERATOR_<NAME>`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, allow_inf_nan=False)

    namespaces: str = Field("", description="the namespaces whose loops are applied, by commas; empty: all of them")
    poll_s: float = Field(15.0, ge=0.2, le=3600, description="how often the registry is asked for all loops")
    quality_s: float = Field(60.0, ge=0.2, le=3600, description="how often monitoring is asked how a loop is doing")
    host: str = Field("127.0.0.1", description="where /livez listens; 0.0.0.0 in a container")
    port: int = Field(8000, ge=1, le=65535, description="the port of /livez")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING)$", description="how much is logged, as JSON")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment. Raises OperatorMisconfigured, which names each variable that is wrong."""
        env = os.environ if environ is None else environ
        found = {name: env[v] for name in cls.model_fields if env.get(v := f"{PREFIX}{name}".upper())}
        try:
            return cls.model_validate(found)
        except ValidationError as e:
            wrong = [
                f"{PREFIX}{err['loc'][0]}".upper() + f": {err['msg']}, got {err['input']!r:.80}" for err in e.errors()
            ]
            raise OperatorMisconfigured("; ".join(wrong)) from e

    @property
    def named_namespaces(self) -> list[str]:
        """The namespaces, none for all."""
        return [name.strip() for name in self.namespaces.split(",") if name.strip()]

"""Tokens of a real OpenID provider (oidc-provider, on Node): let in, refused, and after its keys have changed."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from tests.access import bearer
from tests.builders.running import http_client
from tests.integrations.environments import Environment, environment
from tests.integrations.oidc_provider import AUDIENCE, SECRET, provider

from everloop.local.ports import free_port
from everloop_feature.app import build
from everloop_feature.settings import FeatureSettings
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(180)]
ROTATED_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def oidc() -> Environment:
    """The environment with oidc-provider."""
    return environment("oidc")


async def token_of(issuer: str) -> str:
    """A token by client credentials."""
    async with httpx.AsyncClient(trust_env=False) as http:
        form = {"grant_type": "client_credentials"}
        answer = await http.post(f"{issuer}/token", data=form, auth=("shop", SECRET))
    answer.raise_for_status()
    return str(answer.json()["access_token"])


async def test_a_providers_tokens_are_let_in_also_after_its_key_has_changed_and_while_it_is_away(
    oidc: Environment, tmp_path: Path
) -> None:
    port = free_port()
    with provider(port, "one", tmp_path) as issuer:
        settings = FeatureSettings(data=tmp_path, auth="on", auth_issuer=issuer, auth_audience=AUDIENCE)
        http = http_client(build(settings, MemoryBroker().engine))
        token = await token_of(issuer)
        allowed = await http.get("/v1/loops/churn-eu", headers=bearer(token))
        others = await http.get("/v1/loops/fraud", headers=bearer(token))
        forged = await http.get("/v1/loops/churn-eu", headers=bearer(token[:-6] + "AAAAAA"))
        for_others = FeatureSettings(data=tmp_path, auth="on", auth_issuer=issuer, auth_audience="https://shop.example")
        elsewhere = await http_client(build(for_others, MemoryBroker().engine)).get("/docs", headers=bearer(token))
    away = await http.get("/v1/loops/churn-eu", headers=bearer(token))

    with provider(port, "two", tmp_path) as issuer:
        rotated, began = await token_of(issuer), time.monotonic()
        while (after := await http.get("/v1/loops/churn-eu", headers=bearer(rotated))).status_code == 401:
            assert time.monotonic() - began < ROTATED_WITHIN_S
            await asyncio.sleep(0.2)
        withdrawn = await http.get("/v1/loops/churn-eu", headers=bearer(token))

    assert (allowed.status_code, others.status_code) == (404, 403), "no such loop, and none of theirs"
    assert "shop may not loops.read for loop fraud" in others.json()["detail"]
    assert (forged.status_code, elsewhere.status_code) == (401, 401)
    assert "another audience" in elsewhere.json()["detail"]
    assert (away.status_code, after.status_code, withdrawn.status_code) == (404, 404, 401)

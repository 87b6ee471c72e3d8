"""Requests of a caller beyond its limits."""

from __future__ import annotations

import time

from tests.acceptance.doors import grpc_codes
from tests.acceptance.house import KNOWN_WITHIN_S, SERVICES, House, check


def limits(house: House) -> None:
    """A key with a limit is refused by every service once it has used it, and another one is answered."""
    noisy, calm = house.make_key("engineer", "*", "--limit", "requests_per_s=0.01"), house.make_key("viewer")
    time.sleep(KNOWN_WITHIN_S)
    for service in SERVICES:
        first, refused, other = (
            house.ask("GET", house.url(service) + "/openapi.json", key) for key in (noisy, noisy, calm)
        )
        codes = (first.status, refused.status, other.status)
        check(
            codes == (200, 429, 200), f"{service}: a second request of a key with a limit is 429, another's 200", codes
        )
        told = refused.code, int(refused.headers.get("retry-after", "0")) > 1, "requests_per_s" in refused.body
        check(told == ("caller_limited", True, True), f"{service}: the refusal says which limit, and when again", told)
    methods = ["/inference.GRPCInferenceService/ServerLive"]
    spent = house.make_key("predictor", "*", "--limit", "requests_per_s=0.01")
    time.sleep(KNOWN_WITHIN_S)
    codes_of = [list(grpc_codes(house, key, methods).values()) for key in (spent, spent, calm)]
    check("RESOURCE_EXHAUSTED" not in codes_of[0] + codes_of[2], "gRPC: within the limit, and another", codes_of)
    check(codes_of[1] == ["RESOURCE_EXHAUSTED"], "gRPC: a second call is RESOURCE_EXHAUSTED", codes_of)

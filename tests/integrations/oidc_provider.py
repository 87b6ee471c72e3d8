"""A real OpenID provider (oidc-provider, on Node), with a key of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.integrations.environments import FOLDER

from everloop.local.ports import HOST

AUDIENCE = "https://everloop.example"
SECRET = "a-secret-for-tests-alone"


@contextmanager
def provider(port: int, key_id: str, folder: Path, redirect_uri: str = "") -> Iterator[str]:
    """The provider with one key of this id; its issuer. With `redirect_uri` it has the clients of a console, too."""
    key: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65_537, 2_048), as_dict=True)
    file = folder / f"{key_id}.json"
    file.write_text(json.dumps({"keys": [{**key, "kid": key_id, "use": "sig"}]}))
    issuer = f"http://{HOST}:{port}"
    script = ["node", str(FOLDER / "oidc" / "provider.mjs"), issuer, str(port), str(file), AUDIENCE, redirect_uri]
    with subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listening\n"
            yield issuer
        finally:
            process.terminate()

"""The SQL that makes the roles, and the files with their passwords."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from everloop.errors import EverloopError
from everloop_schemas.topology import SERVICES
from everloop_shared.files import create_private_file

OWNERS = tuple(service.name for service in SERVICES.values() if service.database)
"""The services that own a database; each uses a schema of its own name."""
PERSONAL = "personal"
"""The store of the keys of personal fields; the services that seal and open values share its role."""
ITERATIONS = 4_096
"""Of SCRAM-SHA-256, as PostgreSQL's own default (`scram_iterations`)."""
SALT_BYTES = 16
ATTRIBUTES = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"


class PasswordFileUnusable(EverloopError):
    """A file of passwords cannot be read or written."""


def role_of(service: str, user_prefix: str = "everloop_") -> str:
    """The role of a service."""
    return f"{user_prefix}{service}"


def ensure_password(folder: Path, service: str, role: str) -> str:
    """The password in `folder/<service>.pgpass`, in libpq's form, made if missing. Raises PasswordFileUnusable."""
    file = folder / f"{service}.pgpass"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not file.exists():
            create_private_file(file, f"*:*:*:{role}:{secrets.token_urlsafe(32)}\n".encode())
        *_, user, password = file.read_text().strip().split(":")
    except (OSError, ValueError) as e:
        raise PasswordFileUnusable(f"{file}: {getattr(e, 'strerror', None) or 'is no password file of libpq'}") from e
    if user != role:
        raise PasswordFileUnusable(f"{file} is of the role {user}, not of {role}: move it away, and it is made again")
    return password


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores of a password (RFC 5803), so that the password itself is in no statement and no log."""
    salt = secrets.token_bytes(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def roles_sql(service: str, role: str, verifier: str) -> str:
    """Makes the role and its schema in the database that the statements run in, or brings both up to date.

    What is in the schema already, made by another user, becomes the role's. Others cannot see into it.
    """
    return f"""\
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role}; END IF;
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO {role}', current_database());
END $$;
ALTER ROLE {role} {ATTRIBUTES} PASSWORD '{verifier}';
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA IF NOT EXISTS {service};
REVOKE ALL ON SCHEMA {service} FROM PUBLIC;
DO $$ DECLARE found record; BEGIN
  FOR found IN SELECT c.oid::regclass AS name FROM pg_class c
    WHERE c.relnamespace = '{service}'::regnamespace AND c.relkind IN ('r', 'p')
  LOOP EXECUTE format('ALTER TABLE %s OWNER TO {role}', found.name); END LOOP;
  ALTER SCHEMA {service} OWNER TO {role};
END $$;
"""

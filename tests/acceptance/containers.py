"""Row 10: what `docker inspect` says of every container of a running project, and what roles its database has."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

from tests.acceptance.house import SERVICES, check, say

SYSTEMS = ("kafka", "postgres")
"""The servers that a project runs beside the services."""


def containers(project: str) -> None:
    """Each container without rights that it does not need."""
    if not project:
        say("skip containers: name a running compose project with --project")
        return
    if shutil.which("docker") is None:
        say("skip containers: there is no docker here")
        return
    listed = _docker("ps", "-q", "--filter", f"label=com.docker.compose.project={project}").split()
    found = {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in json.loads(_docker("inspect", *listed))}
    missing = [name for name in (*SERVICES, *SYSTEMS) if name not in found]
    check(not missing, f"{len(found)} containers of {project} run, the six services among them", missing)
    for name, container in sorted(found.items()):
        _one(name, container)
    _networks(found)
    _roles(found)


def _one(name: str, container: dict[str, Any]) -> None:
    host, config = container["HostConfig"], container["Config"]
    wrong = {
        "root": config["User"].partition(":")[0] in ("", "0", "root") and config["User"],
        "privileged": host["Privileged"],
        "capabilities": "ALL" not in [c.upper() for c in host["CapDrop"] or ()] and host["CapDrop"],
        "writable root": not host["ReadonlyRootfs"],
        "no pids limit": not host["PidsLimit"] or host["PidsLimit"] < 0,
        "no memory limit": not host["Memory"],
        "new privileges": not any("no-new-privileges" in option for option in host["SecurityOpt"] or ()),
        "docker socket": any("docker.sock" in mount["Source"] for mount in container["Mounts"]),
        "host network": host["NetworkMode"] == "host",
        "image without digest": name in SYSTEMS and not _is_pinned(config["Image"]) and config["Image"],
    }
    bad = {what: seen for what, seen in wrong.items() if seen is not False and (seen or what == "capabilities")}
    check(not bad, f"{name}: no root, no capabilities, read-only, limits of pids and memory", bad)
    environment = [line for line in config["Env"] if "PASSWORD=" in line or "TOKEN=" in line or "SECRET=" in line]
    told = [line.partition("=")[0] for line in environment if line.partition("=")[2]]
    check(not told, f"{name}: no secret in its environment", told)


def _is_pinned(image: str) -> bool:
    """Whether its name has its digest, or it was built on this machine: no registry has it."""
    return "@sha256:" in image or _docker("image", "inspect", "--format", "{{len .RepoDigests}}", image).strip() == "0"


def _networks(found: dict[str, Any]) -> None:
    of = {name: set(container["NetworkSettings"]["Networks"]) for name, container in found.items()}
    if all(system in of for system in SYSTEMS):
        shared = of["kafka"] & of["postgres"]
        check(not shared, "Kafka and PostgreSQL share no network", of)
        outside = [n for n in SERVICES if n in of and n not in ("registry", "monitoring") and of[n] & of["postgres"]]
        check(not outside, "only registry and monitoring reach PostgreSQL", of)


def _roles(found: dict[str, Any]) -> None:
    if "postgres" not in found:
        return
    query = "select rolname, rolsuper, rolcreatedb, rolcreaterole from pg_roles where rolname like 'everloop%'"
    environment: dict[str, str] = dict(line.split("=", 1) for line in found["postgres"]["Config"]["Env"] if "=" in line)
    user = environment.get("POSTGRES_USER", "postgres")
    database = environment.get("POSTGRES_DB", user)
    told = _docker("exec", str(found["postgres"]["Id"]), "psql", "-U", user, "-d", database, "-Atc", query)
    rows = [line.split("|") for line in told.splitlines() if line]
    roles = {row[0]: row[1:] for row in rows}
    check({"everloop_registry", "everloop_monitoring"} <= set(roles), "registry and monitoring have a role each", roles)
    mighty = {name: rights for name, rights in roles.items() if "t" in rights and name != user}
    check(not mighty, "no role of a service is superuser, or makes databases or roles", mighty)


def _docker(*arguments: str) -> str:
    return subprocess.run(("docker", *arguments), capture_output=True, text=True, timeout=60, check=True).stdout

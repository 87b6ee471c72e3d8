"""/metrics of several workers: those of each, told apart by the label `worker`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from everloop_serving.domain.peer_messages import GetMetrics
from everloop_serving.ports import Peers


def router(peers: Peers) -> APIRouter:
    """The route, instead of that of a single process."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        answers = await peers.ask_others(GetMetrics())
        texts = {n: answer[0] for n, answer in answers.items() if answer} | {peers.number: await own_metrics()}
        return Response(merge_metrics({n: texts[n].decode() for n in sorted(texts)}), media_type=CONTENT_TYPE_LATEST)

    return routes


async def own_metrics() -> bytes:
    """The metrics of this process."""
    return await asyncio.to_thread(generate_latest)


def merge_metrics(texts: Mapping[int, str]) -> str:
    """The samples of all workers, each with its label, below the one description of their metric."""
    metrics: dict[str, tuple[list[str], list[str]]] = {}
    for worker, text in texts.items():
        description, samples, new = list[str](), list[str](), False
        for line in text.splitlines():
            if line.startswith("# HELP "):
                description, samples = metrics.setdefault(line.split(" ", 3)[2], ([], []))
                new = not description
            if line.startswith("#"):
                if new:
                    description.append(line)
                continue
            name, labels, rest = line.partition("{")
            if labels:
                samples.append(f'{name}{{worker="{worker}",{rest}')
            else:
                name, _, value = line.partition(" ")
                samples.append(f'{name}{{worker="{worker}"}} {value}')
    return "\n".join(line for parts in metrics.values() for part in parts for line in part) + "\n"

"""/metrics of several workers: those of each, told apart by the label `worker`."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response

from everloop_serving.domain.peer_messages import GetMetrics
from everloop_serving.ports import Peers
from everloop_shared.http.exposition import content_type, own_metrics, prefers_openmetrics

OPENMETRICS_END = "# EOF"


def router(peers: Peers) -> APIRouter:
    """The route, instead of that of a single process."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    async def metrics(request: Request) -> Response:
        openmetrics = prefers_openmetrics(request.headers.get("accept", ""))
        answers = await peers.ask_others(GetMetrics(openmetrics))
        own = await own_metrics(as_openmetrics=openmetrics)
        texts = {n: answer[0] for n, answer in answers.items() if answer} | {peers.number: own}
        merged = merge_metrics({n: texts[n].decode() for n in sorted(texts)})
        return Response(merged, media_type=content_type(as_openmetrics=openmetrics))

    return routes


def merge_metrics(texts: Mapping[int, str]) -> str:
    """The samples of all workers, each with its label, below the one description of their metric."""
    metrics: dict[str, tuple[list[str], list[str]]] = {}
    end = [OPENMETRICS_END] if any(text.endswith(f"{OPENMETRICS_END}\n") for text in texts.values()) else []
    for worker, text in texts.items():
        description, samples, new = list[str](), list[str](), False
        for line in text.splitlines():
            if line.startswith("# HELP "):
                description, samples = metrics.setdefault(line.split(" ", 3)[2], ([], []))
                new = not description
            if line.startswith("#"):
                if new and line != OPENMETRICS_END:
                    description.append(line)
                continue
            name, labels, rest = line.partition("{")
            if labels:
                samples.append(f'{name}{{worker="{worker}",{rest}')
            else:
                name, _, value = line.partition(" ")
                samples.append(f'{name}{{worker="{worker}"}} {value}')
    return "\n".join([*(line for parts in metrics.values() for part in parts for line in part), *end]) + "\n"

"""How the pods of a pipeline find an installation, and whose token they send."""

from __future__ import annotations

from collections.abc import Mapping

from kfp.dsl import PipelineTask

from everloop_schemas.topology import SERVICES


def reach(task: PipelineTask, urls: Mapping[str, str]) -> PipelineTask:
    """Tell a task the addresses of the services, by their names, in its environment; the task.

    A step is not taken from KFP's cache: what it asks or says is about a loop as it is now. Raises ValueError for a
    name that is no service.
    """
    if unknown := sorted(urls.keys() - SERVICES.keys()):
        raise ValueError(f"{', '.join(unknown)}: no such service; use {', '.join(SERVICES)}")
    for service, url in urls.items():
        task.set_env_variable(SERVICES[service].variable("url"), url)
    return task.set_caching_options(False)

"""Runs over MLflow's API: logged, found and changed by MLflow's own client, and Everloop's own beside them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import challenge_updated, run_finished, run_requested
from tests.builders.running import until
from tests.registry.mlflow_api import MlflowHarness, mlflow_registry
from tests.registry.registry_harness import apply_file, publish, run_to_canary

from everloop_schemas.tracking import RunLogged
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("no_retries"),
]


async def lab_run(registry: MlflowHarness, name: str = "", **logged: Any) -> str:
    """A run in an experiment of one's own, with a metric and a parameter."""
    lab = await registry.call("get_experiment_by_name", "lab")
    number = lab.experiment_id if lab else await registry.call("create_experiment", "lab")
    run = (await registry.call("create_run", number, run_name=name or None)).info.run_id
    for key, value in logged.items():
        await registry.call("log_metric" if isinstance(value, float) else "log_param", run, key, value)
    return str(run)


async def found(registry: MlflowHarness, text: str, *order: str, **options: Any) -> list[str]:
    """The names of the runs of the lab that a filter finds."""
    lab = await registry.call("get_experiment_by_name", "lab")
    runs = await registry.call("search_runs", [lab.experiment_id], text, order_by=list(order), **options)
    return [run.info.run_name for run in runs]


async def test_a_run_keeps_what_was_logged(tmp_path: Path, databases: object) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    async with mlflow_registry(MemoryBroker(), tmp_path) as registry:
        run = await lab_run(registry, "first", depth="3")
        for step, value in enumerate([0.9, 0.5, math.nan, math.inf]):
            await registry.call("log_metric", run, "loss", value, timestamp=1000 + step, step=step)
        batch = [Metric(f"m{n}", float(n), 1, 0) for n in range(900)]
        tags = [RunTag("team", "risk"), RunTag("passing", "thought")]
        await registry.call("log_batch", run, batch, [Param("lr", "0.1")], tags)
        await registry.call("delete_tag", run, "passing")
        data_set = DatasetInput(Dataset("churn.csv", "abc", "local", "{}"), [InputTag("mlflow.data.context", "train")])
        await registry.call("log_inputs", run, [data_set])
        await registry.call("set_terminated", run, "FINISHED", 5000)

        kept = await registry.call("get_run", run)
        history = await registry.call("get_metric_history", run, "loss")

    assert (kept.info.run_name, kept.info.status, kept.info.end_time) == ("first", "FINISHED", 5000)
    assert kept.data.params == {"depth": "3", "lr": "0.1"}
    assert (kept.data.tags["team"], kept.data.tags.get("passing")) == ("risk", None)
    assert (len(kept.data.metrics), kept.data.metrics["m7"]) == (901, 7.0)
    assert kept.data.metrics["loss"] > 1e308
    assert [(m.step, m.timestamp) for m in history] == [(n, 1000 + n) for n in range(4)]
    assert math.isnan(history[2].value)
    [read] = kept.inputs.dataset_inputs
    assert (read.dataset.name, read.dataset.digest, read.tags[0].value) == ("churn.csv", "abc", "train")


async def test_runs_are_found_by_what_was_logged(tmp_path: Path, databases: object) -> None:
    async with mlflow_registry(MemoryBroker(), tmp_path) as registry:
        await lab_run(registry, "shallow", loss=0.9, depth="2", kind="Tree")
        deep = await lab_run(registry, "deep", loss=0.5, depth="9", kind="tree")
        await lab_run(registry, "empty")
        await registry.call("set_tag", deep, "a key", "50% off")
        await registry.call("set_terminated", deep)

        queries = {
            "metrics.loss >= 0.5 and params.depth = '9'": ["deep"],
            "metrics.loss < 0.6": ["deep"],
            "metric.loss != 0.5": ["shallow"],
            "params.kind LIKE 'Tr%'": ["shallow"],
            "params.kind ILIKE 'TR%' and metrics.loss > 0": ["deep", "shallow"],
            "tags.`a key` = '50% off'": ["deep"],
            "tags.`a key` IS NULL and params.depth IS NULL": ["empty"],
            f"attributes.run_id IN ('{deep}', 'x')": ["deep"],
            "status = 'FINISHED'": ["deep"],
            "run_name != 'deep'": ["empty", "shallow"],
            "params.depth = '''; DROP TABLE runs; --'": [],
        }
        answers = {text: sorted(await found(registry, text)) for text in queries}
        ordered = await found(registry, "", "metrics.loss DESC")
        by_parameter = await found(registry, "", "params.depth ASC")
        lab = await registry.call("get_experiment_by_name", "lab")
        pages, token = list[str](), None
        while token is not None or not pages:
            page = await registry.call("search_runs", [lab.experiment_id], max_results=1, page_token=token)
            pages, token = pages + [run.info.run_name for run in page], page.token
        wrong = await registry.refused("search_runs", [lab.experiment_id], "metrics.loss LIKE 'a'")

    assert answers == {text: sorted(names) for text, names in queries.items()}
    assert ordered == ["shallow", "deep", "empty"]
    assert by_parameter == ["shallow", "deep", "empty"]
    assert sorted(pages) == ["deep", "empty", "shallow"]
    assert wrong[0] == "INVALID_PARAMETER_VALUE"


async def test_what_cannot_be_logged_is_refused_with_the_reason(tmp_path: Path) -> None:
    limits = {"max_run_metrics": 3, "max_run_parameters": 2, "max_runs": 2, "max_experiments": 3}
    async with mlflow_registry(MemoryBroker(), tmp_path, **limits) as registry:
        run = await lab_run(registry, "one", depth="3", loss=0.5)

        await registry.call("log_param", run, "depth", "3")
        refused = {
            "changed": await registry.refused("log_param", run, "depth", "4"),
            "unknown": await registry.refused("log_metric", "0" * 32, "loss", 1.0),
            "own tag": await registry.refused("set_tag", run, "everloop.version", "mine"),
        }
        await registry.call("log_metric", run, "loss", 0.4)
        await registry.call("log_metric", run, "loss", 0.3)
        await registry.call("log_param", run, "lr", "1")
        refused |= {
            "metrics": await registry.refused("log_metric", run, "loss", 0.2),
            "parameters": await registry.refused("log_param", run, "more", "1"),
        }
        await lab_run(registry, "two")
        lab = await registry.call("get_experiment_by_name", "lab")
        refused["runs"] = await registry.refused("create_run", lab.experiment_id)
        await registry.call("create_experiment", "another lab")
        refused["experiments"] = await registry.refused("create_experiment", "a third lab")
        await registry.call("delete_run", run)
        refused["deleted"] = await registry.refused("log_metric", run, "loss", 0.1)
        await registry.call("restore_run", run)
        await registry.call("set_tag", run, "note", "back")

    codes = {what: code for what, (code, _) in refused.items()}
    assert codes == {
        "changed": "INVALID_PARAMETER_VALUE",
        "unknown": "RESOURCE_DOES_NOT_EXIST",
        "own tag": "PERMISSION_DENIED",
        "metrics": "RESOURCE_EXHAUSTED",
        "parameters": "RESOURCE_EXHAUSTED",
        "runs": "RESOURCE_EXHAUSTED",
        "experiments": "RESOURCE_EXHAUSTED",
        "deleted": "INVALID_PARAMETER_VALUE",
    }
    assert "EVERLOOP_REGISTRY_MAX_RUN_METRICS" in refused["metrics"][1]


async def test_everloops_own_runs_are_shown_with_parameters_and_metrics_by_step(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with mlflow_registry(broker, tmp_path) as registry:
        await apply_file(registry.http)
        await run_to_canary(broker, tmp_path)
        await publish(broker, run_finished("a-0", offset=200))
        await until(lambda: any(e.data.run and e.data.run.status == "FINISHED" for e in logged(broker)))

        champion = await registry.call("get_model_version_by_alias", "market", "champion")
        run = await registry.call("get_run", champion.run_id)
        history = await registry.call("get_metric_history", champion.run_id, "prequential_accuracy")
        [same] = await registry.call("search_runs", [run.info.experiment_id], "tags.`everloop.line` = 'a-0'")
        refused = await registry.refused("delete_run", champion.run_id)

    assert (run.info.run_name, run.info.status, run.info.user_id) == ("a-0", "FINISHED", "everloop/training")
    assert run.data.params["trigger"] == "drift"
    assert run.data.params["preset"]
    assert run.data.tags["everloop.version"] == "a-0@200"
    assert 0 < run.data.metrics["prequential_loss"] < 1
    assert [m.step for m in history] == sorted({m.step for m in history})
    assert run.inputs.dataset_inputs[0].dataset.name.startswith("market@")
    assert same.info.run_id == champion.run_id
    assert refused[0] == "PERMISSION_DENIED"


def logged(broker: MemoryBroker) -> list[RunLogged]:
    """What was published of tracking data."""
    return [e for e in broker.events(RunLogged.topic) if isinstance(e, RunLogged)]


async def test_events_about_a_run_may_come_in_any_order_and_twice(tmp_path: Path) -> None:
    broker = MemoryBroker()
    events = [run_finished("c-0"), challenge_updated(0, {"c-0": [0.0, 1.0] * 75}), run_requested("c-0")]
    async with mlflow_registry(broker, tmp_path) as registry:
        await apply_file(registry.http)
        await publish(broker, *events)
        await until(lambda: len(logged(broker)) == 3)
        await publish(broker, *events)
        await publish(broker, run_requested("last"))
        await until(lambda: any(e.subject == "run-last" for e in logged(broker)))

        run = await registry.call("get_run", "run-c-0")

    assert (run.info.status, run.info.run_name) == ("FINISHED", "c-0")
    assert run.data.params["trigger"] == "drift"
    assert run.data.metrics["prequential_loss"] == 0.5
    assert len([e for e in logged(broker) if e.subject == "run-c-0"]) == 3

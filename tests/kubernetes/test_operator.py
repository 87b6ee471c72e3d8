"""`kubectl apply -f churn.yaml` is `everloop apply`: the operator as a process, on a real API server."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kubernetes.cluster import ROOT, Cluster
from tests.kubernetes.cluster import wait_until as wait_until_within
from tests.kubernetes.operator_process import (
    OperatorProcess,
    SmallEverloop,
    give_rights,
    own_kubeconfig,
    running,
)

from everloop import Everloop

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]
PAGE = ROOT / "shared" / "docs" / "loops-as-resources.md"
CRD = ROOT / "deploy" / "helm" / "everloop" / "crds"
NAMESPACE, OTHER, OPERATOR_NAMESPACE = "loops-here", "loops-there", "loops-operator"
SPEC: dict[str, Any] = {
    "task": "binary",
    "schema": {"visits": {"type": "number", "min": 0}, "plan": {"type": "string", "missing": "null"}},
    "features": [{"fields": ["visits"]}],
    "rollout": {"canary": ["5%", 0.5], "step": "100 outcomes"},
}


WITHIN_S = 120.0


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Return once it holds; a busy machine needs its time."""
    wait_until_within(holds, what, WITHIN_S)


@dataclass
class House:
    """The cluster, an Everloop and the operator between them."""

    cluster: Cluster
    everloop: SmallEverloop
    operator: OperatorProcess

    def kubectl(self, *args: str, namespace: str = NAMESPACE, given: str | None = None) -> str:
        """What `kubectl ARGS` prints."""
        return self.cluster.kubectl("--namespace", namespace, *args, given=given)

    def apply(self, name: str, spec: dict[str, Any], namespace: str = NAMESPACE, **annotations: str) -> None:
        """`kubectl apply -f -` of a loop; underscores in names of annotations are dashes."""
        notes = {f"everloop.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
        meta = {"name": name, "annotations": notes}
        manifest = {"apiVersion": "everloop.io/v1", "kind": "Loop", "metadata": meta, "spec": spec}
        self.kubectl("apply", "-f", "-", namespace=namespace, given=yaml.safe_dump(manifest))

    def status(self, name: str, namespace: str = NAMESPACE) -> dict[str, Any]:
        """The status of a resource."""
        text = self.kubectl("get", "loop", name, "-o", "json", namespace=namespace)
        status: dict[str, Any] = json.loads(text).get("status", {})
        return status

    def condition(self, name: str, kind: str, namespace: str = NAMESPACE) -> tuple[str, str]:
        """Status and reason of a condition."""
        found = [c for c in self.status(name, namespace).get("conditions", ()) if c["type"] == kind]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def wait_for(self, name: str, kind: str, status: str, reason: str, namespace: str = NAMESPACE) -> None:
        """Return once a condition is so."""
        what = f"{kind} of {name} is {status}, {reason}"
        wait_until(lambda: self.condition(name, kind, namespace) == (status, reason), what)

    def wait_until_ready(self, name: str, generation: int = 1) -> None:
        """Return once this generation of the spec is used."""

        def is_ready() -> bool:
            status = self.status(name)
            ready = [c for c in status.get("conditions", ()) if c["type"] == "Ready"]
            return bool(ready) and (ready[0]["status"], ready[0]["observedGeneration"]) == ("True", generation)

        wait_until(is_ready, f"generation {generation} of {name} is ready")

    def revisions(self) -> dict[str, int]:
        """The loops of the registry and their revisions."""
        with Everloop(str(self.everloop.folder)) as client:
            answer = client.request("registry", "GET", "/v1/loops").json()
        return {entry["loop"]: entry["revision"] for entry in answer["loops"]}

    def reasons(self, name: str) -> set[str]:
        """The reasons of the events about a resource."""
        answer = json.loads(self.kubectl("get", "events", "-o", "json"))
        return {event["reason"] for event in answer["items"] if event["involvedObject"]["name"] == name}

    def wait_for_event(self, name: str, reason: str) -> None:
        """Return once it is there."""
        wait_until(lambda: reason in self.reasons(name), f"event {reason} of {name}")


@pytest.fixture(scope="module")
def house(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("operator")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRD))
    cluster.kubectl("wait", "--for=condition=Established", "crd/loops.everloop.io", "--timeout=30s")
    for namespace in (NAMESPACE, OTHER, OPERATOR_NAMESPACE):
        cluster.kubectl("create", "namespace", namespace)
    everloop = SmallEverloop(folder)
    rights = give_rights(cluster, OPERATOR_NAMESPACE, folder / "rights.yaml")
    operator = OperatorProcess(own_kubeconfig(cluster, OPERATOR_NAMESPACE, folder), folder, folder / "operator.log")
    started = House(cluster, everloop, operator)
    try:
        with running(everloop), running(operator):
            yield started
            for namespace in (NAMESPACE, OTHER):
                started.kubectl("delete", "loops", "--all", "--timeout=60s", namespace=namespace)
    finally:
        cluster.kubectl("delete", "-f", str(rights), "--ignore-not-found")
        for namespace in (NAMESPACE, OTHER, OPERATOR_NAMESPACE):
            cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def test_a_loop_is_applied_changed_and_deleted_with_its_resource(house: House) -> None:
    house.apply("churn", SPEC)
    house.wait_until_ready("churn")
    first = house.status("churn")
    house.apply("churn", SPEC | {"metric": "f1"})
    house.wait_until_ready("churn", generation=2)
    second = house.revisions()["churn"]

    house.kubectl("delete", "loop", "churn", "--timeout=60s")

    assert (first["revision"], first["champion"]["version"], first["rollout"]["stage"]) == (1, "0", "idle")
    assert second == 2
    assert "churn" not in house.revisions()
    assert {"Applied", "Ready", "Deleted"} <= house.reasons("churn")


def test_kubectl_shows_champion_quality_and_rollout(house: House) -> None:
    house.apply("quality", SPEC)
    house.wait_until_ready("quality")
    with Everloop(str(house.everloop.folder)) as client:
        for i in range(40):
            client.predict("quality", {"visits": float(i)}, id=f"e{i}")
        client.label("quality", [{"id": f"e{i}", "label": i % 2 == 0} for i in range(40)])

    wait_until(lambda: house.status("quality").get("quality", {}).get("outcomes") == 40, "40 outcomes are told")

    header, row = house.kubectl("get", "loops", "quality").splitlines()
    shown = dict(zip(header.split(), row.split(), strict=True))
    assert list(shown) == ["NAME", "CHAMPION", "REVISION", "METRIC", "QUALITY", "ROLLOUT", "READY", "AGE"]
    assert (shown["METRIC"], shown["ROLLOUT"], shown["READY"]) == ("accuracy", "idle", "True")
    assert float(shown["QUALITY"]) == house.status("quality")["quality"]["rolling"]
    assert "REASON" in house.kubectl("get", "loops", "quality", "-o", "wide")


def test_a_wrong_spec_is_told_with_field_and_fix_and_what_serves_goes_on(house: House) -> None:
    house.apply("typo", SPEC)
    house.wait_until_ready("typo")

    house.apply("typo", SPEC | {"retrian": {"on_drift": False}})
    house.wait_for("typo", "Accepted", "False", "Refused")
    refused = house.status("typo")
    house.apply("typo", SPEC | {"retrain": {"on_drift": False}})
    house.wait_until_ready("typo", generation=3)

    assert refused["errors"] == [{"field": "retrian", "error": "is not known; did you mean retrain?"}]
    assert (refused["observedGeneration"], refused["revision"]) == (2, 1)
    [ready] = [c for c in refused["conditions"] if c["type"] == "Ready"]
    assert ready["status"] == "False"
    assert ready["message"].endswith("did you mean retrain?; revision 1 goes on")
    assert "errors" not in house.status("typo")
    assert "Refused" in house.reasons("typo")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"task": "binary"}, "spec.schema: Required"),
        (SPEC | {"task": "ranking"}, 'Unsupported value: "ranking"'),
        (SPEC | {"rollout": {"approvals": "two"}}, "spec.rollout.approvals"),
    ],
)
def test_the_api_server_refuses_what_its_schema_can_say(house: House, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(AssertionError) as refused:
        house.apply("refused", wrong)

    assert told in str(refused.value)


def test_a_null_that_kubernetes_would_drop_is_refused_where_it_arrives(house: House) -> None:
    spec = SPEC | {"schema": {"visits": {"type": "number", "missing": None}}}
    manifest = {"apiVersion": "everloop.io/v1", "kind": "Loop", "metadata": {"name": "nulls"}, "spec": spec}

    with pytest.raises(AssertionError) as refused:
        house.kubectl("apply", "--server-side", "-f", "-", given=json.dumps(manifest))

    assert 'spec.schema.visits.missing: Unsupported value: null: supported values: "refuse", "null"' in str(
        refused.value
    )


def test_a_name_that_no_loop_can_have_is_refused_with_the_rule(house: House) -> None:
    with pytest.raises(AssertionError) as refused:
        house.apply("churn.eu", SPEC)

    assert "metadata.name is the loop's name and must be lower-case letters" in str(refused.value)


def test_what_is_applied_elsewhere_is_put_right_or_told_only(house: House, tmp_path: Path) -> None:
    other = tmp_path / "drift.yaml"
    other.write_text(yaml.safe_dump({"loop": "drift", "task": "binary", "schema": {"clicks": {"type": "number"}}}))
    house.apply("drift", SPEC)
    house.wait_until_ready("drift")

    house.everloop.everloop("apply", "-f", str(other))
    house.wait_for_event("drift", "Restored")
    restored = house.status("drift")["revision"]
    house.apply("drift", SPEC, on_drift="report")
    house.everloop.everloop("apply", "-f", str(other))
    house.wait_for("drift", "Synced", "False", "AppliedElsewhere")
    left = house.revisions()["drift"]
    house.apply("drift", SPEC, on_drift="restore")
    house.wait_for("drift", "Synced", "True", "Synced")

    assert (restored, left, house.revisions()["drift"]) == (3, 4, 5)
    assert "Drifted" in house.reasons("drift")


def test_a_loop_that_is_to_be_kept_outlives_its_resource_and_is_taken_over_by_the_next(house: House) -> None:
    house.apply("kept", SPEC, on_delete="keep")
    house.wait_until_ready("kept")

    house.kubectl("delete", "loop", "kept", "--timeout=60s")
    between = house.revisions()
    house.apply("kept", SPEC, namespace=OTHER)
    house.wait_for("kept", "Ready", "True", "Serving", namespace=OTHER)

    assert between["kept"] == 1
    assert house.revisions()["kept"] == 1
    assert "Kept" in house.reasons("kept")


def test_of_two_resources_of_one_name_the_second_is_refused_until_the_first_is_gone(house: House) -> None:
    house.apply("twice", SPEC)
    house.wait_until_ready("twice")

    house.apply("twice", SPEC | {"metric": "f1"}, namespace=OTHER)
    house.wait_for("twice", "Accepted", "False", "NameTaken", namespace=OTHER)
    told = house.status("twice", OTHER)["errors"]
    first = house.revisions()["twice"]
    house.kubectl("delete", "loop", "twice", "--timeout=60s")
    house.wait_for("twice", "Ready", "True", "Serving", namespace=OTHER)

    assert told == [{"field": "metadata.name", "error": f"loop twice is {NAMESPACE}/twice's"}]
    assert first == 1
    assert house.status("twice", OTHER)["quality"]["metric"] == "f1"


def test_a_resource_whose_spec_was_refused_leaves_the_loop_that_somebody_else_applied(
    house: House, tmp_path: Path
) -> None:
    other = tmp_path / "theirs.yaml"
    other.write_text(yaml.safe_dump({"loop": "theirs", "task": "binary", "schema": {"clicks": {"type": "number"}}}))
    house.everloop.everloop("apply", "-f", str(other))
    house.apply("theirs", SPEC | {"retrian": 1})
    house.wait_for("theirs", "Accepted", "False", "Refused")

    house.kubectl("delete", "loop", "theirs", "--timeout=60s")

    assert house.revisions()["theirs"] == 1


def test_a_killed_operator_goes_on_where_it_was_and_applies_nothing_twice(house: House) -> None:
    for name in ("stays", "changes", "goes"):
        house.apply(name, SPEC)
    for name in ("stays", "changes", "goes"):
        house.wait_until_ready(name)
    house.operator.stop(signal.SIGKILL)
    house.apply("changes", SPEC | {"metric": "f1"})
    house.apply("comes", SPEC)
    house.kubectl("delete", "loop", "goes", "--wait=false")

    house.operator.start()

    house.wait_until_ready("changes", generation=2)
    house.wait_until_ready("comes")
    wait_until(lambda: "goes" not in house.revisions(), "the loop of the deleted resource is deleted")
    wait_until(lambda: "goes" not in house.kubectl("get", "loops"), "its resource is gone")
    revisions = house.revisions()
    assert (revisions["stays"], revisions["changes"], revisions["comes"]) == (1, 2, 1)


def test_without_an_operator_a_resource_is_let_go_by_hand_and_its_loop_goes_on(house: House) -> None:
    house.apply("orphan", SPEC)
    house.wait_until_ready("orphan")
    house.operator.stop()
    house.kubectl("delete", "loop", "orphan", "--wait=false")

    house.kubectl("patch", "loop", "orphan", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    house.operator.start()

    assert "orphan" not in house.kubectl("get", "loops")
    assert house.revisions()["orphan"] == 1


def test_an_everloop_that_is_away_is_told_and_everything_is_done_when_it_is_back(house: House) -> None:
    for name in ("patient", "leaving"):
        house.apply(name, SPEC)
    for name in ("patient", "leaving"):
        house.wait_until_ready(name)

    house.everloop.stop()
    house.wait_for("patient", "Ready", "Unknown", "EverloopUnreachable")
    house.apply("waiting", SPEC)
    house.wait_for("waiting", "Ready", "Unknown", "EverloopUnreachable")
    house.kubectl("delete", "loop", "leaving", "--wait=false")
    house.wait_for("leaving", "Ready", "Unknown", "DeletionWaits")
    house.everloop.start()

    house.wait_for("patient", "Ready", "True", "Serving")
    house.wait_for("waiting", "Ready", "True", "Serving")
    wait_until(lambda: "leaving" not in house.kubectl("get", "loops"), "the deleted resource is gone")
    assert {"patient", "waiting"} <= house.revisions().keys()
    assert "leaving" not in house.revisions()


def test_the_example_of_the_page_is_a_loop(house: House) -> None:
    [example] = [
        block for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) if "kind: Loop" in block
    ]

    house.kubectl("apply", "-f", "-", given=example)

    house.wait_until_ready("churn")
    assert house.revisions()["churn"] >= 1

"""A rendered overlay: one that is right, and the same with one thing taken away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.doctor import overlay
from relay.doctor.verdict import Finding, Result, Scope
from tests.doctor.asking import fails, passes, warns

Documents = list[dict[str, Any]]
RIGHT = Path(__file__).with_name("overlay.yaml").read_text(encoding="utf-8")


async def examine(text: str | None) -> list[Finding]:
    return await overlay.examine(text, scopes=tuple(Scope))


async def without(change: Callable[[Documents], object]) -> list[Finding]:
    """What is found after this change."""
    documents: Documents = list(yaml.safe_load_all(RIGHT))
    change(documents)
    return await examine(yaml.safe_dump_all(documents))


def one(documents: Documents, kind: str, name: str | None = None) -> dict[str, Any]:
    """A manifest of the kind, the first where no name is given."""
    return next(it for it in documents if it["kind"] == kind and name in (None, it["metadata"]["name"]))


def container(documents: Documents, name: str = "relay-api") -> dict[str, Any]:
    return one(documents, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]


async def test_nothing_is_found_in_an_overlay_that_is_right() -> None:
    found = await examine(RIGHT)
    passes(found, "overlay")
    passes(found, "overlay-network-policy")
    passes(found, "overlay-disruption-budget")
    passes(found, "overlay-autoscaler")
    passes(found, "overlay-replicas", saying="3 pods of relay-api and 3 pods of relay-worker")
    passes(found, "overlay-probes")
    passes(found, "overlay-limits")
    passes(found, "overlay-secrets")
    passes(found, "overlay-image")
    passes(found, "overlay-doors")


async def test_no_overlay_is_told_and_no_check_of_one_passes() -> None:
    found = await examine(None)
    warns(found, "overlay", saying="not seen")
    assert {one.verdict.result for one in found[1:]} == {Result.SKIPPED}


@pytest.mark.parametrize("text", ["", "Error: no such folder", "a: [", "- 1\n- 2", "kind: List\n---\njust words"])
async def test_what_is_no_overlay_fails(text: str) -> None:
    found = await examine(text)
    fails(found, "overlay")
    assert {one.verdict.result for one in found[1:]} == {Result.SKIPPED}


async def test_an_overlay_without_a_deployment_fails_and_nothing_else_passes() -> None:
    found = await without(lambda all: all.remove(one(all, "Deployment", "relay-worker")))
    fails(found, "overlay", saying="There is no Deployment relay-worker")
    assert Result.PASS not in {one.verdict.result for one in found}


async def test_pods_that_no_policy_restricts_fail() -> None:
    found = await without(lambda all: all.remove(one(all, "NetworkPolicy", "relay-default")))
    fails(found, "overlay-network-policy", saying="No NetworkPolicy restricts Ingress of relay-api")

    def for_api_only(all: Documents) -> None:
        one(all, "NetworkPolicy", "relay")["spec"]["podSelector"]["matchExpressions"][0]["values"] = ["api"]

    fails(await without(for_api_only), "overlay-network-policy", saying="Egress of relay-worker")


async def test_a_budget_that_is_missing_or_lets_nobody_go_fails() -> None:
    found = await without(lambda all: all.remove(one(all, "PodDisruptionBudget", "relay-api")))
    fails(found, "overlay-disruption-budget", saying="relay-api has no PodDisruptionBudget")
    budgets: tuple[dict[str, object], ...] = ({"maxUnavailable": 0}, {"minAvailable": 3}, {"minAvailable": "100%"})
    for budget in budgets:
        found = await without(lambda all, it=budget: _give_budget(all, it))
        fails(found, "overlay-disruption-budget", saying="lets no pod go")


def _give_budget(all: Documents, budget: dict[str, object]) -> None:
    spec = one(all, "PodDisruptionBudget", "relay-worker")["spec"]
    del spec["minAvailable"]
    spec.update(budget)


async def test_an_autoscaler_that_is_missing_undone_or_stuck_fails() -> None:
    found = await without(lambda all: all.remove(one(all, "HorizontalPodAutoscaler", "relay-worker")))
    fails(found, "overlay-autoscaler", saying="relay-worker has no HorizontalPodAutoscaler")
    fails(found, "overlay-replicas", saying="relay-worker may fall to 1 pods of 3")
    found = await without(lambda all: one(all, "Deployment")["spec"].update(replicas=3))
    fails(found, "overlay-autoscaler", saying="each apply undoes")
    found = await without(lambda all: one(all, "HorizontalPodAutoscaler")["spec"].update(maxReplicas=3))
    fails(found, "overlay-autoscaler", saying="has no room above 3")


async def test_too_few_pods_fail() -> None:
    found = await without(lambda all: one(all, "HorizontalPodAutoscaler")["spec"].update(minReplicas=1))
    fails(found, "overlay-replicas", saying="relay-api may fall to 1 pods of 2")


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
async def test_a_container_without_a_probe_fails(probe: str) -> None:
    found = await without(lambda all: container(all, "relay-worker").pop(probe))
    fails(found, "overlay-probes", saying=f"relay-worker/worker has no {probe}")


async def test_a_container_without_limits_fails() -> None:
    found = await without(lambda all: container(all)["resources"]["limits"].pop("memory"))
    fails(found, "overlay-limits", saying="has no limits.memory")
    found = await without(lambda all: container(all, "relay-worker").pop("resources"))
    fails(found, "overlay-limits", saying="relay-worker/worker has no requests.cpu")


async def test_a_secret_that_is_no_file_fails() -> None:
    in_environment = {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "relay-secrets", "key": "url"}}}
    found = await without(lambda all: container(all)["env"].append(in_environment))
    fails(found, "overlay-secrets", saying="relay-api/api has DATABASE_URL in its environment")
    found = await without(lambda all: one(all, "ConfigMap")["data"].pop("SIGNING_KEY_FILE"))
    fails(found, "overlay-secrets", saying="has no SIGNING_KEY_FILE")
    found = await without(lambda all: container(all).pop("volumeMounts"))
    fails(found, "overlay-secrets", saying="DATABASE_URL_FILE of relay-api/api is in no mounted Secret")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "relay-secrets"},
        "data": {"signing-key": "eA=="},
    }
    found = await without(lambda all: all.append(secret))
    fails(found, "overlay-secrets", saying="The Secret relay-secrets stands in the overlay")


@pytest.mark.parametrize("image", ["relay", "relay:latest", "relay:dev", "registry.internal:5000/relay"])
async def test_an_image_that_means_another_tomorrow_fails(image: str) -> None:
    fails(await without(lambda all: container(all).update(image=image)), "overlay-image", saying=f"runs {image}")


async def test_open_doors_fail_wherever_they_are_opened() -> None:
    found = await without(lambda all: one(all, "ConfigMap")["data"].update(AUTH_ENABLED="false"))
    fails(found, "overlay-doors", saying="asks for no keys")
    open_door = {"name": "ENABLE_PLAYGROUND", "value": "true"}
    found = await without(lambda all: container(all)["env"].append(open_door))
    fails(found, "overlay-doors", saying="relay-api/api serves the playground")

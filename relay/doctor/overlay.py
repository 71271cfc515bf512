"""What will be deployed: the parts of the checklist that stand in a rendered Kubernetes overlay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from relay.doctor.manifests import (
    API,
    WORKER,
    Manifest,
    NotManifests,
    Overlay,
    all_containers_of,
    containers_of,
    labels_of,
    name_of,
    pod_of,
    read,
    selects,
)
from relay.doctor.verdict import SKIPPED, Check, Finding, Result, Scope, Verdict, answers, bad, good, unseen

_LEAST = {API: 2, WORKER: 3}
_PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
_NEEDED = ("requests.cpu", "requests.memory", "limits.memory")
_MOVING_TAGS = ("", "latest", "dev", "main", "master", "edge", "nightly")
_FILES = ("DATABASE_URL_FILE", "SIGNING_KEY_FILE")
_SECRETS = ("DATABASE_URL", "SIGNING_KEY")
_GIVE = "Give it: `kubectl kustomize deploy/k8s/overlays/production | relay doctor --production --overlay -`."


def deployments(overlay: Overlay) -> Verdict:
    """Whether both of Relay's Deployments are there."""
    missing = [name for name in (API, WORKER) if name not in overlay.deployments]
    return _judged(
        [f"there is no Deployment {name}" for name in missing],
        "The Deployments relay-api and relay-worker are there.",
        "Render the overlay with both, without a prefix to their names.",
    )


def network_policy(overlay: Overlay) -> Verdict:
    """Whether a NetworkPolicy restricts who reaches each pod, and whom it reaches."""
    wrong: list[str] = []
    for name, deployment in overlay.deployments.items():
        restricted: set[str] = set()
        for policy in overlay.of("NetworkPolicy"):
            spec = policy.get("spec", {})
            if selects(spec.get("podSelector") or {}, labels_of(deployment)):
                restricted |= set(spec.get("policyTypes") or ("Ingress", *(["Egress"] if "egress" in spec else [])))
        wrong += [
            f"no NetworkPolicy restricts {kind} of {name}" for kind in ("Ingress", "Egress") if kind not in restricted
        ]
    return _judged(
        wrong,
        "NetworkPolicies restrict both ways for every pod.",
        "Add a NetworkPolicy with both policyTypes for each Deployment's pods.",
    )


def disruption_budget(overlay: Overlay) -> Verdict:
    """Whether the drain of a machine leaves some pods, and can go on."""
    wrong: list[str] = []
    for name, deployment in overlay.deployments.items():
        budgets = [
            one.get("spec", {})
            for one in overlay.of("PodDisruptionBudget")
            if selects(one.get("spec", {}).get("selector") or {}, labels_of(deployment))
        ]
        if not budgets:
            wrong.append(f"{name} has no PodDisruptionBudget")
        elif any(_lets_nobody_go(budget, replicas=_least_replicas(overlay, name)) for budget in budgets):
            wrong.append(f"the PodDisruptionBudget of {name} lets no pod go, so no machine can be drained")
    return _judged(
        wrong,
        "Each Deployment has a PodDisruptionBudget that lets a pod go.",
        "Add a PodDisruptionBudget with maxUnavailable: 1 for each Deployment.",
    )


def _lets_nobody_go(budget: Manifest, *, replicas: int) -> bool:
    at_least = budget.get("minAvailable")
    return (
        budget.get("maxUnavailable") in (0, "0%")
        or at_least == "100%"
        or (isinstance(at_least, int) and at_least >= replicas)
    )


def autoscaler(overlay: Overlay) -> Verdict:
    """Whether each Deployment has an autoscaler that nothing undoes."""
    wrong: list[str] = []
    for name, deployment in overlay.deployments.items():
        found = _autoscaler_of(overlay, name)
        if found is None:
            wrong.append(f"{name} has no HorizontalPodAutoscaler")
        elif "replicas" in deployment.get("spec", {}):
            wrong.append(f"{name} names its replicas, so each apply undoes its autoscaler")
        elif found.get("maxReplicas", 0) <= found.get("minReplicas", 1):
            wrong.append(f"the HorizontalPodAutoscaler of {name} has no room above {found.get('minReplicas', 1)}")
    return _judged(
        wrong,
        "Each Deployment has a HorizontalPodAutoscaler and no replicas of its own.",
        "Add a HorizontalPodAutoscaler for each Deployment and take `replicas` out of it.",
    )


def replicas(overlay: Overlay) -> Verdict:
    """Whether enough pods run at the quietest hour."""
    counts = {name: _least_replicas(overlay, name) for name in overlay.deployments}
    wrong = [
        f"{name} may fall to {count} pods of {_LEAST[name]}" for name, count in counts.items() if count < _LEAST[name]
    ]
    told = " and ".join(f"{count} pods of {name}" for name, count in counts.items())
    return _judged(wrong, f"At least {told} run.", "Raise minReplicas of the HorizontalPodAutoscaler.")


def _autoscaler_of(overlay: Overlay, name: str) -> Manifest | None:
    for one in overlay.of("HorizontalPodAutoscaler"):
        target = one.get("spec", {}).get("scaleTargetRef", {})
        if (target.get("kind"), target.get("name")) == ("Deployment", name):
            return one["spec"]
    return None


def _least_replicas(overlay: Overlay, name: str) -> int:
    found = _autoscaler_of(overlay, name)
    if found is not None:
        return int(found.get("minReplicas", 1))
    return int(overlay.deployments[name].get("spec", {}).get("replicas", 1))


def probes(overlay: Overlay) -> Verdict:
    """Whether Kubernetes can see that a pod has started, lives and is ready."""
    wrong = [
        f"{where} has no {probe}"
        for where, deployment, container in _everyone(overlay)
        for probe in _PROBES
        if container in containers_of(deployment) and probe not in container
    ]
    return _judged(
        wrong,
        "Every container has a startup, a liveness and a readiness probe.",
        "Add the probe: /health/live for startup and liveness, /health/ready for readiness.",
    )


def limits(overlay: Overlay) -> Verdict:
    """Whether every container says what it needs, and is stopped before it takes its neighbours' memory."""
    wrong: list[str] = []
    for where, _, container in _everyone(overlay):
        given = container.get("resources") or {}
        for needed in _NEEDED:
            group, _, kind = needed.partition(".")
            if kind not in (given.get(group) or {}):
                wrong.append(f"{where} has no {needed}")
    return _judged(
        wrong,
        "Every container requests processor and memory, and has a limit of memory.",
        "Add resources.requests for cpu and memory and resources.limits for memory.",
    )


def secrets(overlay: Overlay) -> Verdict:
    """Whether secrets are mounted as files, and none stands in the overlay."""
    wrong = [
        f"the Secret {name_of(one)} stands in the overlay with its values"
        for one in overlay.of("Secret")
        if one.get("data") or one.get("stringData")
    ]
    for where, deployment, container in _everyone(overlay):
        environment = overlay.environment(container)
        wrong += [f"{where} has {name} in its environment" for name in _SECRETS if name in environment]
        if container is not containers_of(deployment)[0]:
            continue
        wrong += [f"{where} has no {name}" for name in _FILES if name not in environment]
        mounted = _secret_folders(deployment, container)
        wrong += [
            f"{name} of {where} is in no mounted Secret"
            for name in _FILES
            if (path := environment.get(name)) and not path.startswith(mounted)
        ]
    return _judged(
        wrong,
        "DATABASE_URL_FILE and SIGNING_KEY_FILE name files of mounted Secrets.",
        "Mount the Secret relay-secrets and name its files in DATABASE_URL_FILE and SIGNING_KEY_FILE.",
    )


def _secret_folders(deployment: Manifest, container: Manifest) -> tuple[str, ...]:
    volumes = {
        one["name"] for one in pod_of(deployment).get("volumes") or () if {"secret", "projected", "csi"} & one.keys()
    }
    return tuple(
        f"{mount['mountPath'].rstrip('/')}/"
        for mount in container.get("volumeMounts") or ()
        if mount["name"] in volumes
    )


def image(overlay: Overlay) -> Verdict:
    """Whether the same overlay deploys the same program tomorrow."""
    wrong = [
        f"{where} runs {container.get('image', 'no image')}"
        for where, _, container in _everyone(overlay)
        if _moves(str(container.get("image", "")))
    ]
    return _judged(
        wrong,
        "Every image has the tag of a release, or a digest.",
        "Set the tag of a release (`images` of the kustomization).",
    )


def _moves(image: str) -> bool:
    """Whether the name means another image from time to time: its tag is none of a release. A port is no tag."""
    return "@sha256:" not in image and image.rpartition("/")[2].partition(":")[2] in _MOVING_TAGS


def doors(overlay: Overlay) -> Verdict:
    """Whether keys are asked for and the playground is closed."""
    wrong: list[str] = []
    for where, deployment, container in _everyone(overlay):
        if container in containers_of(deployment):
            wrong += _open_doors(where, overlay.environment(container))
    return _judged(
        wrong,
        "Keys are asked for and the playground is off.",
        "Set AUTH_ENABLED to true and ENABLE_PLAYGROUND to false in the ConfigMap.",
    )


def _open_doors(where: str, environment: Mapping[str, str | None]) -> Iterator[str]:
    if _flag(environment, "AUTH_ENABLED", default="true") not in ("true", "1", "yes", "on"):
        yield f"{where} asks for no keys"
    if _flag(environment, "ENABLE_PLAYGROUND", default="false") not in ("false", "0", "no", "off"):
        yield f"{where} serves the playground"


def _flag(environment: Mapping[str, str | None], name: str, *, default: str) -> str:
    return (environment.get(name) or default).strip().lower()


def _everyone(overlay: Overlay) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Each container of Relay's pods: its place for a sentence, its Deployment, itself."""
    for name, deployment in overlay.deployments.items():
        for container in all_containers_of(deployment):
            yield f"{name}/{container.get('name', '?')}", deployment, container


def _judged(wrong: list[str], right: str, fix: str) -> Verdict:
    """All right, or what is wrong in one sentence."""
    if not wrong:
        return good(right)
    text = "; ".join(wrong)
    return bad(f"{text if text.startswith(API[:6]) else text[0].upper() + text[1:]}.", fix)


CHECKS: tuple[Check[Overlay], ...] = (
    Check("overlay", deployments, Scope.EVERYWHERE),
    Check("overlay-network-policy", network_policy, Scope.EVERYWHERE),
    Check("overlay-disruption-budget", disruption_budget),
    Check("overlay-autoscaler", autoscaler),
    Check("overlay-replicas", replicas),
    Check("overlay-probes", probes, Scope.EVERYWHERE),
    Check("overlay-limits", limits, Scope.EVERYWHERE),
    Check("overlay-secrets", secrets, Scope.EVERYWHERE),
    Check("overlay-image", image),
    Check("overlay-doors", doors),
)


async def examine(text: str | None, *, scopes: Iterable[Scope]) -> list[Finding]:
    """Ask a rendered overlay; where there is none, or none of Relay's, the first check says so for all."""
    if text is None:
        return _only_the_first(unseen("how Relay is deployed, for no overlay was given.", _GIVE), scopes=scopes)
    try:
        overlay = read(text)
    except NotManifests as cause:
        return _only_the_first(bad(str(cause), _GIVE), scopes=tuple(Scope))
    first = await answers("overlay", CHECKS[:1], overlay, scopes=scopes)
    if first[0].verdict.result is Result.FAIL:
        return _only_the_first(first[0].verdict, scopes=tuple(Scope))
    return first + await answers("overlay", CHECKS[1:], overlay, scopes=scopes)


def _only_the_first(verdict: Verdict, *, scopes: Iterable[Scope]) -> list[Finding]:
    """Its verdict where all of the checklist is asked; the others cannot be asked."""
    first = Finding("overlay", CHECKS[0].name, verdict if Scope.PRODUCTION in set(scopes) else SKIPPED)
    others = Verdict(Result.SKIPPED, "there is no overlay of Relay's to look at")
    return [first, *(Finding("overlay", check.name, others) for check in CHECKS[1:])]

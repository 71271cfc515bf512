"""What docs/kubernetes.md shows: each command is taken by the real kubectl and does what the page says."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from relay.cli.main import _parser
from relay.settings import read_settings
from tests.deploy.cluster import Cluster, cluster
from tests.deploy.rendered import K8S, OVERLAYS, PROGRAMS, ROOT, Document, kubectl, overlay, validate
from tests.documents import shell_commands

COMMANDS = [words for place, words in shell_commands() if place.startswith("docs/kubernetes.md")]
KUBECTL = [words[1:] for words in COMMANDS if words[0] == "kubectl" and "|" not in words]
NAMESPACE = "/namespaces/relay-production"
DEPLOYMENTS = f"/apis/apps/v1{NAMESPACE}/deployments"


class Client:
    """The real kubectl, told of one cluster."""

    def __init__(self, served: Cluster, home: Path) -> None:
        self.served, self._home = served, home

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        # The stand-in has no schemas for kubectl to download; test_kubernetes.py validates.
        more = ["--validate=false"] if words[0] == "apply" else []
        before = words.index("--") if "--" in words else len(words)
        told = [*words[:before], *more, "--server", self.served.address, *words[before:]]
        return kubectl(*told, home=self._home)

    def must(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with cluster() as served:
        yield Client(served, tmp_path)


def finish_rollout(served: Cluster, program: str, revision: int) -> None:
    """Do what controllers do: keep the pods of this revision as a ReplicaSet, and say that all of them are ready."""
    deployment = served.objects[f"{DEPLOYMENTS}/{program}"]
    deployment["metadata"] |= {"uid": program, "generation": revision}
    annotations = deployment["metadata"].setdefault("annotations", {})
    annotations["deployment.kubernetes.io/revision"] = str(revision)
    template = copy.deepcopy(deployment["spec"]["template"])
    template["metadata"]["labels"]["pod-template-hash"] = f"hash{revision}"
    name = f"{program}-hash{revision}"
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": program, "uid": program, "controller": True}
    metadata = {"name": name, "namespace": "relay-production", "ownerReferences": [owner], "uid": name}
    metadata |= {"labels": template["metadata"]["labels"], "annotations": dict(annotations)}
    selector = {"matchLabels": template["metadata"]["labels"]}
    served.objects[f"/apis/apps/v1{NAMESPACE}/replicasets/{name}"] = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": metadata,
        "spec": {"replicas": 3, "selector": selector, "template": template},
    }
    deployment["spec"]["replicas"] = 3
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 3)
    deployment["status"] = {"observedGeneration": revision, **counts}


def image_of(served: Cluster, program: str) -> str:
    return served.objects[f"{DEPLOYMENTS}/{program}"]["spec"]["template"]["spec"]["containers"][0]["image"]


def config_of(served: Cluster, program: str) -> str:
    container = served.objects[f"{DEPLOYMENTS}/{program}"]["spec"]["template"]["spec"]["containers"][0]
    return container["envFrom"][0]["configMapRef"]["name"]


# ---- apply -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OVERLAYS)
def test_applying_twice_changes_nothing(name: str, client: Client) -> None:
    client.must("apply", "-f", f"deploy/k8s/overlays/{name}/namespace.yaml")
    first = client.must("apply", "-k", f"deploy/k8s/overlays/{name}")
    stored = copy.deepcopy(client.served.objects)
    assert len(stored) == len(overlay(name).documents)
    assert first.count(" created\n") == len(stored) - 1  # the namespace was there
    client.served.changes.clear()
    second = client.must("apply", "-k", f"deploy/k8s/overlays/{name}")
    assert client.served.objects == stored
    # kubectl sends the selector of a disruption budget every time, for it is one that can only be replaced.
    assert {path.split("/")[-2] for _, path, _ in client.served.changes} <= {"poddisruptionbudgets"}
    assert second.count(" unchanged\n") == len(stored) - 2


def test_a_namespace_made_by_hand_gets_its_labels(client: Client) -> None:
    made: Document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "relay-production"}}
    client.served.objects["/api/v1/namespaces/relay-production"] = made
    client.must("apply", "-k", "deploy/k8s/overlays/production")
    labels = client.served.objects["/api/v1/namespaces/relay-production"]["metadata"]["labels"]
    assert labels == overlay("production").one("Namespace", "relay-production")["metadata"]["labels"]


def test_applying_again_leaves_the_autoscalers_number_alone(client: Client) -> None:
    client.must("apply", "-k", "deploy/k8s/overlays/production")
    for program in PROGRAMS:
        client.served.objects[f"{DEPLOYMENTS}/{program}"]["spec"]["replicas"] = 17
    client.must("apply", "-k", "deploy/k8s/overlays/production")
    for program in PROGRAMS:
        assert client.served.objects[f"{DEPLOYMENTS}/{program}"]["spec"]["replicas"] == 17


def test_a_release_with_other_settings_is_rolled_back_with_them(client: Client, tmp_path: Path) -> None:
    client.must("apply", "-k", "deploy/k8s/overlays/production")
    for program in PROGRAMS:
        finish_rollout(client.served, program, 1)
    old = {program: (image_of(client.served, program), config_of(client.served, program)) for program in PROGRAMS}
    newer = tmp_path / "k8s"
    shutil.copytree(K8S, newer)
    path = newer / "overlays" / "production" / "kustomization.yaml"
    text = path.read_text(encoding="utf-8").replace('newTag: "0.1.0"', 'newTag: "9.9.9"')
    path.write_text(text.replace("LOG_LEVEL=warn", "LOG_LEVEL=error"), encoding="utf-8")
    client.must("apply", "-k", str(path.parent))
    for program in PROGRAMS:
        assert image_of(client.served, program) == "relay:9.9.9"
        assert client.served.objects[f"{DEPLOYMENTS}/{program}"]["spec"]["replicas"] == 3
        finish_rollout(client.served, program, 2)
        client.must("-n", "relay-production", "rollout", "undo", f"deployment/{program}")
        assert (image_of(client.served, program), config_of(client.served, program)) == old[program]
        assert f"/api/v1{NAMESPACE}/configmaps/{old[program][1]}" in client.served.objects


# ---- the page's commands ---------------------------------------------------------------------------------------------


#: What a command must ask the cluster for, by a part of it; what needs a living pod ends there.
ASKS = {
    "apply -f": f"/api/v1{NAMESPACE}",
    "apply -k": f"{DEPLOYMENTS}/relay-api",
    "rollout status deployment/relay-api": f"{DEPLOYMENTS}/relay-api",
    "rollout status deployment/relay-worker": f"{DEPLOYMENTS}/relay-worker",
    "rollout undo deployment/relay-api": f"/apis/apps/v1{NAMESPACE}/replicasets",
    "rollout undo deployment/relay-worker": f"/apis/apps/v1{NAMESPACE}/replicasets",
    "rollout restart": f"{DEPLOYMENTS}/relay-worker",
    "get horizontalpodautoscaler": f"/apis/autoscaling/v2{NAMESPACE}/horizontalpodautoscalers",
    "get --raw": f"/apis/external.metrics.k8s.io/v1beta1{NAMESPACE}/relay_queue_depth",
    "exec deployment/relay-api": f"/api/v1{NAMESPACE}/pods/relay-api-1/exec?command=relay&command=apikey",
    "exec deployment/relay-worker": f"/api/v1{NAMESPACE}/pods/relay-worker-1/exec?command=relay&command=doctor",
    "logs deployment/relay-api": f"/api/v1{NAMESPACE}/pods/relay-api-1/log?container=migrate",
    "logs deployment/relay-worker": f"/api/v1{NAMESPACE}/pods/relay-worker-1/log?container=wait-for-schema",
    "port-forward": "/api/v1/namespaces/relay-dev/services/relay-api",
    "create secret generic relay-secrets": f"/api/v1{NAMESPACE}/secrets",
    "create secret generic relay-metrics": f"/api/v1{NAMESPACE}/secrets",
}
ENDS_AT_THE_POD = ("get --raw", "exec", "logs", "port-forward", "create secret")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A cluster with production and dev in it, two revisions of each Deployment, and a pod of each."""
    with cluster() as served:
        client = Client(served, tmp_path_factory.mktemp("home"))
        for name in ("dev", "production"):
            client.must("apply", "-k", f"deploy/k8s/overlays/{name}")
        for program in PROGRAMS:
            finish_rollout(served, program, 1)
            finish_rollout(served, program, 2)
            template = served.objects[f"{DEPLOYMENTS}/{program}"]["spec"]["template"]
            names = {"name": f"{program}-1", "namespace": "relay-production"}
            served.objects[f"/api/v1{NAMESPACE}/pods/{program}-1"] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**template["metadata"], **names},
                "spec": template["spec"],
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
            }
        yield client


@pytest.mark.parametrize("words", KUBECTL, ids=" ".join)
def test_kubectl_takes_each_command_and_asks_for_the_right_things(
    words: list[str], running: Client, tmp_path: Path
) -> None:
    line = " ".join(words)
    (key,) = [key for key in ASKS if re.search(rf"(^| ){re.escape(key)}( |$)", line)]
    for file in ("database-url", "signing-key", "api-key"):
        (tmp_path / file).write_text("x" * 40, encoding="utf-8")
    given = [word.replace("--from-file=", f"--from-file={tmp_path}/") for word in words]
    running.served.requests.clear()
    done = running.run(*given)
    assert any(asked.startswith(ASKS[key]) for asked in running.served.requests), (done.stderr, running.served.requests)
    if not key.startswith(ENDS_AT_THE_POD):
        assert done.returncode == 0, done.stderr
    assert re.search("unknown|invalid|must specify|See 'kubectl", done.stderr) is None, done.stderr
    if "--" in words:
        assert callable(_parser().parse_args(words[words.index("--") + 2 :]).run)
    if "--container" in words:
        program = line.split("deployment/")[1].split()[0]
        assert words[words.index("--container") + 1] == overlay("production").init_container(program)["name"]


def test_every_kind_of_command_is_shown() -> None:
    lines = [" ".join(words) for words in KUBECTL]
    assert all(any(key in line for line in lines) for key in ASKS)


def test_a_command_that_kubectl_does_not_take_would_be_seen(running: Client) -> None:
    for wrong in (
        "-n relay-production rollout undo deployment/relay-api --too-revision=1",
        "rollout undue deployment/x",
    ):
        done = running.run(*wrong.split())
        assert done.returncode != 0
        assert re.search("unknown|invalid|must specify|See 'kubectl", done.stderr), done.stderr


def test_the_secret_of_the_page_is_the_one_that_pods_mount(tmp_path: Path) -> None:
    (make_key,) = [words for words in COMMANDS if words[0] == "python3"]
    assert make_key[-2:] == [">", "signing-key"]
    made = subprocess.run([sys.executable, *make_key[1:-2]], capture_output=True, text=True, check=True).stdout
    (tmp_path / "signing-key").write_text(made, encoding="utf-8")
    (tmp_path / "database-url").write_text("postgresql://db.internal/relay", encoding="utf-8")
    create = [words for words in KUBECTL if "relay-secrets" in words]
    (piped,) = [words[1 : words.index("|")] for words in COMMANDS if "kubeseal" in words]
    for words in (*[[*one, "--dry-run=client", "-o", "yaml"] for one in create], piped):
        done = kubectl(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        secret = yaml.safe_load(done.stdout)
        validate(secret)
        assert secret["metadata"] == {"name": "relay-secrets", "namespace": "relay-production"}
        for program in PROGRAMS:
            (volume,) = [one["secret"] for one in overlay("production").pod(program)["volumes"] if "secret" in one]
            assert {item["key"] for item in volume["items"]} == set(secret["data"])
    environment = {"SIGNING_KEY_FILE": str(tmp_path / "signing-key"), "DATABASE_URL": "postgresql://d/r"}
    assert read_settings({**environment, "REDIS_URL": "redis://r"}).signing_key == made.strip()


def test_programs_that_are_not_at_hand_are_shown_with_files_that_are() -> None:
    (helm,) = [words for words in COMMANDS if words[0] == "helm"]
    assert helm[1:3] == ["upgrade", "--install"]
    assert (ROOT / helm[helm.index("--values") + 1]).is_file()
    (seal,) = [words[words.index("|") + 1 :] for words in COMMANDS if "kubeseal" in words]
    assert shlex.join(seal) == "kubeseal --format yaml '>' sealed-secret.yaml"
    assert {words[0] for words in COMMANDS} == {"kubectl", "python3", "helm"}


def test_what_is_applied_passes_the_checklist(tmp_path: Path) -> None:
    (line,) = [words for words in COMMANDS if "doctor" in words and "|" in words]
    pipe = line.index("|")
    (tmp_path / "overlay.yaml").write_text(kubectl(*line[1:pipe], home=tmp_path).stdout, encoding="utf-8")
    arguments = _parser().parse_args([*line[pipe + 2 : -1], str(tmp_path / "overlay.yaml")])
    assert line[-1] == "-"
    assert arguments.run(arguments) == 0

"""What else docs/kubernetes.md says: the files that it shows build, and its tables are true."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.settings import read_settings
from tests.deploy.rendered import K8S, OVERLAYS, PROGRAMS, ROOT, build, overlay, read, validate
from tests.documents import Block, blocks_of, table

PAGE = ROOT / "docs" / "kubernetes.md"
YAML = [block for block in blocks_of(PAGE) if block.language == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_each_kustomization_of_the_page_builds(block: Block, tmp_path: Path) -> None:
    assert block.text.startswith("# production/kustomization.yaml\n")
    shutil.copytree(K8S, tmp_path / "relay" / "deploy" / "k8s")
    own = tmp_path / "production"
    own.mkdir()
    (own / "kustomization.yaml").write_text(block.text, encoding="utf-8")
    form = K8S / "components" / "sealed-secrets" / "sealed-secret.yaml"
    (own / "sealed-secret.yaml").write_text(form.read_text(encoding="utf-8").replace("replace-with", "AgB"))
    rendered = read(build(own))
    for document in rendered.documents:
        assert document["metadata"].get("namespace", document["metadata"]["name"]) == "relay-production"
        if document["kind"] not in ("ExternalSecret", "SealedSecret"):
            validate(document)
    asked = yaml.safe_load(block.text)
    if "images" in asked:
        assert rendered.container("relay-worker")["image"] == "registry.example.com/relay:0.1.0"
        assert rendered.config()["REDIS_URL"] == "redis://redis.internal:6379/0"
        assert rendered.one("Ingress", "relay-api")["spec"]["rules"][0]["host"] == "hooks.mycompany.com"
    for patch in asked.get("patches", ()):
        found = rendered.one(patch["target"]["kind"], patch["target"]["name"])
        if "patch" in patch:
            for step in yaml.safe_load(patch["patch"]):
                assert _at(found, step["path"]) == step["value"]


def _at(document: Any, path: str) -> Any:
    for part in path.split("/")[1:]:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def test_the_table_of_the_page_is_what_is_built() -> None:
    rows = {row[0]: row[1:] for row in table(PAGE, "| setting | dev | staging | production |")}
    for column, name in enumerate(OVERLAYS):
        rendered = overlay(name)
        sizes = [rendered.one("HorizontalPodAutoscaler", program)["spec"] for program in PROGRAMS]
        api, worker = [f"{one['minReplicas']}, {one['maxReplicas']}" for one in sizes]
        config = rendered.config()
        assert [cells[column] for cells in rows.values()] == [
            f"`{rendered.all('Namespace')[0]['metadata']['name']}`",
            api,
            worker,
            config["LOG_LEVEL"],
            {"true": "on", "false": "off"}[config["ENABLE_PLAYGROUND"]],
            {"true": "yes", "false": "no"}[config["AUTH_ENABLED"]],
        ]


def test_the_connections_of_the_page_are_those_that_the_pods_may_open() -> None:
    rows = table(PAGE, "| | dev | staging | production |")
    for row, bound in zip(rows, ("minReplicas", "maxReplicas"), strict=True):
        for column, name in enumerate(OVERLAYS):
            config = overlay(name).config()
            stores = {"DATABASE_URL": "postgresql://d/r", "SIGNING_KEY": "k" * 32}
            settings = read_settings({**config, **stores})
            pods = [overlay(name).one("HorizontalPodAutoscaler", program)["spec"][bound] for program in PROGRAMS]
            processes = pods[0] * settings.web_concurrency + pods[1] * settings.worker_processes
            assert int(row[column + 1]) == processes * settings.database_max_conns, (row[0], name)


def test_the_policies_of_the_page_are_those_that_are_built() -> None:
    shown = {row[0].strip("`") for row in table(PAGE, "| policy | lets through |")}
    built = {one["metadata"]["name"] for one in overlay("production").all("NetworkPolicy")}
    assert built == shown | {"relay-default-deny"}

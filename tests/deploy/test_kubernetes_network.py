"""Who may talk to whom: the network policies of deploy/k8s, and how they agree with what Relay itself refuses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.addresses import _METADATA, _SPECIAL_V4, _SPECIAL_V6, Guard, check_url
from relay.errors import Invalid
from relay.settings import Settings
from tests.deploy.rendered import OVERLAYS, PROGRAMS, ROOT, Document, overlay

each_overlay = pytest.mark.parametrize("name", OVERLAYS)
Address = IPv4Address | IPv6Address
GUARD = Guard(())


def policy(name: str) -> Document:
    return overlay("production").one("NetworkPolicy", name)["spec"]


def selects(spec: Document, program: str) -> bool:
    """Whether a policy is about the pods of this program."""
    selector = spec["podSelector"]
    wanted: list[str] = [selector["matchLabels"]["app.kubernetes.io/name"]] if "matchLabels" in selector else []
    for expression in selector.get("matchExpressions", ()):
        assert (expression["key"], expression["operator"]) == ("app.kubernetes.io/name", "In")
        wanted += expression["values"]
    return program in wanted or not wanted


def rules(program: str, direction: str) -> list[Document]:
    """Every rule that lets something through for the pods of this program."""
    return [
        rule
        for document in overlay("production").all("NetworkPolicy")
        if selects(document["spec"], program)
        for rule in document["spec"].get(direction, ())
    ]


def peers(program: str, direction: str, port: int | str) -> list[Document]:
    side = "to" if direction == "egress" else "from"
    return [peer for rule in rules(program, direction) for peer in rule[side] if covers(rule["ports"], port)]


def covers(ports: list[dict[str, Any]], port: int | str) -> bool:
    if isinstance(port, str):
        return any(one["port"] == port for one in ports)
    numbers = [(one["port"], one.get("endPort", one["port"])) for one in ports if isinstance(one["port"], int)]
    return any(first <= port <= last for first, last in numbers)


def reaches(peer: Document, address: Address) -> bool:
    """Whether a peer lets this address through, as Kubernetes reads an ipBlock."""
    block = peer.get("ipBlock")
    if block is None or ip_network(block["cidr"]).version != address.version:
        return False
    return address in ip_network(block["cidr"]) and not any(
        address in ip_network(hole) for hole in block.get("except", ())
    )


def may_send(address: Address, port: int = 443) -> bool:
    return any(reaches(peer, address) for peer in peers("relay-worker", "egress", port))


# ---- shape -----------------------------------------------------------------------------------------------------------


@each_overlay
def test_nothing_is_let_through_unless_a_policy_says_so(name: str) -> None:
    spec = overlay(name).one("NetworkPolicy", "relay-default-deny")["spec"]
    assert spec == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_every_rule_names_its_peers_and_ports() -> None:
    for document in overlay("production").all("NetworkPolicy"):
        for direction, side in (("ingress", "from"), ("egress", "to")):
            assert (direction.title() in document["spec"]["policyTypes"]) or direction not in document["spec"]
            for rule in document["spec"].get(direction, ()):
                assert rule[side], document["metadata"]["name"]  # an empty list is everybody
                assert rule["ports"], document["metadata"]["name"]
                for peer in rule[side]:
                    assert peer.get("namespaceSelector") != {}, document["metadata"]["name"]


def test_the_policies_are_the_same_everywhere() -> None:
    for name in OVERLAYS:
        assert [one["spec"] for one in overlay(name).all("NetworkPolicy")] == [
            one["spec"] for one in overlay("production").all("NetworkPolicy")
        ]


# ---- in --------------------------------------------------------------------------------------------------------------


def namespaces(program: str, port: str) -> set[str]:
    found = peers(program, "ingress", port)
    assert all(set(peer) == {"namespaceSelector"} for peer in found)
    return {peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in found}


def test_the_api_hears_the_ingress_controller_and_monitoring() -> None:
    assert namespaces("relay-api", "http") == {"ingress-nginx", "monitoring"}
    assert all(covers(rule["ports"], "http") and len(rule["ports"]) == 1 for rule in rules("relay-api", "ingress"))


def test_a_worker_hears_monitoring_on_its_pages_and_nobody_else() -> None:
    assert namespaces("relay-worker", "metrics") == {"monitoring"}
    assert all(
        covers(rule["ports"], "metrics") and len(rule["ports"]) == 1 for rule in rules("relay-worker", "ingress")
    )


# ---- out -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS)
def test_both_find_names_and_stores(program: str) -> None:
    selectors = [peer for peer in peers(program, "egress", 53) if "namespaceSelector" in peer]
    assert selectors[0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kube-system"}
    assert selectors[0]["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    for port in (5432, 6432, 6379, 26379):
        assert {"podSelector": {}} in peers(program, "egress", port)
        assert any(reaches(peer, ip_address("10.1.2.3")) for peer in peers(program, "egress", port)), port


def test_the_api_sends_nothing_out() -> None:
    for port in (80, 443, 5432, 6379, 8443):
        assert not any(reaches(peer, ip_address("93.184.215.14")) for peer in peers("relay-api", "egress", port)), port
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "api").rglob("*.py")]
    assert not any("delivery.transport" in source or "pycurl" in source for source in sources)


def test_workers_send_to_the_ports_that_an_endpoint_may_have() -> None:
    for port in (*range(1, 1025), 5432, 8443, 65535):
        try:
            check_url(f"https://example.com:{port}/", guard=GUARD)
            allowed = True
        except Invalid:
            allowed = False
        assert may_send(ip_address("93.184.215.14"), port) is allowed, port


def test_the_second_wall_leaves_out_what_relay_leaves_out() -> None:
    blocks = [peer["ipBlock"] for peer in policy("relay-deliveries")["egress"][0]["to"]]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "2000::/3"}
    holes = {ip_network(hole) for block in blocks for hole in block["except"]}
    assert holes >= set(_SPECIAL_V4) | set(_SPECIAL_V6)
    assert holes - set(_SPECIAL_V4) - set(_SPECIAL_V6) == {ip_network("168.63.129.16/32"), ip_network("2002::/16")}
    for block in blocks:
        for hole in block["except"]:
            assert ip_network(hole).subnet_of(ip_network(block["cidr"])), hole  # pyright: ignore[reportArgumentType]


def test_no_cloud_hands_its_credentials_to_a_pod() -> None:
    for address in _METADATA:
        for port in (80, 443, 1338, 8080):
            assert not may_send(address, port), address
        assert not any(reaches(peer, address) for peer in peers("relay-api", "egress", 80)), address


EDGES = [edge for one in _SPECIAL_V4 for edge in (int(one[0]) - 1, int(one[0]), int(one[-1]), int(one[-1]) + 1)]


@given((st.integers(0, 2**32 - 1) | st.sampled_from([edge for edge in EDGES if 0 <= edge < 2**32])).map(IPv4Address))
def test_for_ipv4_both_walls_are_one(address: IPv4Address) -> None:
    assert may_send(address) is not GUARD.forbids(str(address))


GLOBAL = st.integers(2**125, 2**126 - 1)  # 2000::/3


@given((GLOBAL | st.integers(0, 2**128 - 1)).map(IPv6Address))
def test_for_ipv6_the_second_wall_is_never_the_lower_one(address: IPv6Address) -> None:
    assert not (may_send(address) and GUARD.forbids(str(address)))


# ---- the way in from outside -----------------------------------------------------------------------------------------


@each_overlay
def test_the_ingress_leads_to_the_api_by_tls(name: str) -> None:
    ingress = overlay(name).one("Ingress", "relay-api")["spec"]
    host = "relay.example.com" if name == "production" else f"relay.{name}.example.com"
    assert ingress["ingressClassName"] == "nginx"
    assert ingress["tls"] == [{"hosts": [host], "secretName": "relay-tls"}]
    (rule,) = ingress["rules"]
    assert rule["host"] == host
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    assert path["backend"] == {"service": {"name": "relay-api", "port": {"name": "http"}}}


def test_the_ingress_lets_the_largest_request_through() -> None:
    annotations = overlay("production").one("Ingress", "relay-api")["metadata"]["annotations"]
    size = annotations["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("m")) << 20 == Settings.model_fields["max_request_bytes"].default


@each_overlay
def test_an_api_without_keys_answers_private_addresses_only(name: str) -> None:
    annotations = overlay(name).one("Ingress", "relay-api")["metadata"]["annotations"]
    sources = annotations.get("nginx.ingress.kubernetes.io/whitelist-source-range")
    assert (sources is None) is (overlay(name).config()["AUTH_ENABLED"] == "true")
    if sources is not None:
        assert all(ip_network(source).is_private for source in sources.split(","))

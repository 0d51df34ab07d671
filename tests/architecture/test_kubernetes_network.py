"""The network policies let through what the services need, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest

from tests.support.manifests import Build, Object, built

SINGLE, MANAGED = "overlays/single-node", "overlays/managed"
OURS = "leads"


@dataclass(frozen=True)
class Peer:
    """One end of a connection: a pod of a namespace, or an address outside of the cluster."""

    labels: dict[str, str] = field(default_factory=dict[str, str])
    namespace: dict[str, str] = field(default_factory=dict[str, str])
    address: str | None = None


def ours(component: str) -> Peer:
    return Peer({"app.kubernetes.io/component": component}, {"kubernetes.io/metadata.name": OURS})


def foreign(**namespace: str) -> Peer:
    return Peer(namespace={"kubernetes.io/metadata.name": "other", **namespace})


INGRESS = foreign(**{"leads/ingress": "allowed"})
PROMETHEUS = foreign(**{"leads/observability": "allowed"})
DNS = Peer({"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"})
INTERNET = Peer(address="203.0.113.7")
INTERNET_6 = Peer(address="2001:db8::7")
METADATA = Peer(address="169.254.169.254")
PRIVATE = Peer(address="10.1.2.3")


def matches(selector: Object, labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    listed = selector.get("matchExpressions", [])
    assert all(one["operator"] == "In" for one in listed), "teach this test the operator"
    return wanted and all(labels.get(one["key"]) in one["values"] for one in listed)


def is_peer(rule: Object, peer: Peer) -> bool:
    if block := rule.get("ipBlock"):
        if peer.address is None:
            return False
        address, network = ip_address(peer.address), ip_network(block["cidr"])
        excepted = map(ip_network, block.get("except", []))
        return address in network and not any(address in one for one in excepted)
    if peer.address is not None:
        return False
    # Without a selector of namespaces: pods of the policy's own.
    is_near = (
        matches(rule["namespaceSelector"], peer.namespace)
        if "namespaceSelector" in rule
        else peer.namespace.get("kubernetes.io/metadata.name") == OURS
    )
    return is_near and matches(rule.get("podSelector", {}), peer.labels)


def admits(rules: Sequence[Object], end: str, peer: Peer, port: int, protocol: str) -> bool:
    return any(
        (end not in rule or any(is_peer(one, peer) for one in rule[end]))
        and any(
            (one["port"], one.get("protocol", "TCP")) == (port, protocol) for one in rule["ports"]
        )
        for rule in rules
    )


def is_allowed(build: Build, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Return whether a connection passes, by the rules of both its ends where they are ours."""
    sides = (
        ("Egress", "egress", "to", source, target),
        ("Ingress", "ingress", "from", target, source),
    )
    for kind, key, end, near, far in sides:
        if near.namespace.get("kubernetes.io/metadata.name") != OURS:
            continue
        policies = [
            one["spec"]
            for one in build.of("NetworkPolicy")
            if kind in one["spec"]["policyTypes"]
            and matches(one["spec"]["podSelector"], near.labels)
        ]
        assert policies, "nothing is selected by default-deny"
        if not any(admits(one.get(key, []), end, far, port, protocol) for one in policies):
            return False
    return True


@pytest.mark.parametrize(
    ("overlay", "source", "target", "port"),
    [
        (SINGLE, INGRESS, ours("api"), 1234),
        (SINGLE, PROMETHEUS, ours("syncer"), 8080),
        (MANAGED, PROMETHEUS, ours("exporter"), 8080),  # KEDA, too
        (MANAGED, ours("summarizer"), PROMETHEUS, 4318),
        (SINGLE, ours("api"), ours("postgres"), 5432),
        (SINGLE, ours("migrate"), ours("postgres"), 5432),
        (SINGLE, ours("exporter"), ours("streams"), 6379),
        (SINGLE, ours("summarizer"), ours("cache"), 6379),
        (MANAGED, ours("syncer"), PRIVATE, 5432),
        (MANAGED, ours("api"), INTERNET, 6543),  # Supabase's pooler
        (MANAGED, ours("api"), INTERNET, 443),
        (MANAGED, ours("summarizer"), INTERNET_6, 443),
        (SINGLE, ours("syncer"), INTERNET, 443),
    ],
)
def test_what_is_needed_passes(overlay: str, source: Peer, target: Peer, port: int) -> None:
    assert is_allowed(built(overlay), source, target, port)


@pytest.mark.parametrize("component", ["api", "migrate", "postgres", "cache"])
@pytest.mark.parametrize("protocol", ["UDP", "TCP"])
def test_names_are_looked_up(component: str, protocol: str) -> None:
    assert is_allowed(built(SINGLE), ours(component), DNS, 53, protocol)


@pytest.mark.parametrize(
    ("overlay", "source", "target", "port"),
    [
        (SINGLE, foreign(), ours("api"), 1234),
        (SINGLE, INGRESS, ours("syncer"), 8080),
        (SINGLE, INGRESS, ours("postgres"), 5432),
        (SINGLE, PROMETHEUS, ours("api"), 1234),
        (SINGLE, foreign(), ours("streams"), 6379),
        (SINGLE, ours("api"), ours("syncer"), 8080),
        (SINGLE, ours("cache"), ours("postgres"), 5432),
        (SINGLE, ours("api"), INTERNET, 5432),  # the servers are here
        (SINGLE, ours("streams"), INTERNET, 443),
        (SINGLE, ours("postgres"), INTERNET, 443),
        (MANAGED, ours("migrate"), INTERNET, 443),
        (MANAGED, ours("exporter"), INTERNET, 443),
        (MANAGED, ours("api"), PRIVATE, 443),
        (MANAGED, ours("summarizer"), METADATA, 443),
        (MANAGED, ours("syncer"), METADATA, 80),
        (MANAGED, ours("syncer"), INTERNET, 80),
    ],
)
def test_nothing_else_does(overlay: str, source: Peer, target: Peer, port: int) -> None:
    assert not is_allowed(built(overlay), source, target, port)

"""What `lossbook node status` answers an operator at 3 a.m.: who is silent, what is missing, what to do."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lossbook.v1 import gateway_pb2
from store.backup import write_backup_marker
from tests.process.network import Network, free_ports
from tests.support.commands import document, lossbook
from tests.support.insurers import policy_issue


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.create(tmp_path) as made:
        made.start_all()
        yield made
        for daemon in made.daemons.values():
            daemon.process.send_signal(signal.SIGCONT)


def reasons(network: Network, name: str) -> dict[str, dict[str, str]]:
    """By kind, in the order in which they are told."""
    found: list[dict[str, str]] = document("node", "status", "--home", network.home(name))["detail"]["reasons"]
    return {reason["kind"]: reason for reason in found}


def wait_for(network: Network, name: str, kind: str, *words: str, timeout_s: float = 40.0) -> dict[str, dict[str, str]]:
    """Until a reason of this kind says all these words."""
    until = time.monotonic() + timeout_s
    while True:
        found = reasons(network, name)
        if all(word in found.get(kind, {}).get("text", "") for word in words) and kind in found:
            return found
        assert time.monotonic() < until, found
        time.sleep(0.1)


def height(network: Network) -> int:
    return network.status("alpha").finalized_height


def final(network: Network, name: str) -> Any:
    return network.submit(name, network.envelope(name, policy_issue(policy_id=bytes(16)))).stage


def test_with_two_of_four_silent_the_others_name_them_and_say_what_is_missing(network: Network) -> None:
    network.wait_until("all is well", lambda: set(reasons(network, "alpha")) <= {"well", "idle"})
    network.daemons["gamma"].kill()
    network.daemons["delta"].process.send_signal(signal.SIGSTOP)
    found = wait_for(network, "alpha", "silent", "delta and gamma", "2 of 4 validators are heard", "3 are needed")
    assert "The connection to delta is up: the process there may hang" in found["silent"]["next_step"]
    wait_for(network, "alpha", "votes", "2 of 3", "not yet from delta and gamma")
    stood_still = height(network)

    # Once its machine answers no ping either, the connection counts as lost.
    wait_for(network, "beta", "too-few-peers", "2 of 4 validators", "delta (", "gamma (")
    assert "[-] peers: 1 of 3 connected, 2 needed. This node reaches 2 of 4" in network.readyz("beta")
    shown = lossbook("node", "status", "--home", network.home("beta")).stdout
    reason, _, next_step = shown.partition(
        "\n* This node reaches 2 of 4 validators, itself included, and 3 are needed."
    )[2].partition("\n  Next: ")
    assert "Not reached: delta (" in reason
    assert next_step.startswith("Ask delta and gamma whether their nodes run (`lossbook node status` there)")
    assert height(network) == stood_still

    network.daemons["delta"].process.send_signal(signal.SIGCONT)
    found = wait_for(network, "alpha", "peers-lost", "gamma (", "goes on with 3 of 4 validators; no more may fail")
    assert "silent" not in found
    assert final(network, "alpha") == gateway_pb2.STAGE_FINAL
    network.start("gamma")
    network.wait_ready("gamma")
    network.wait_until("all is well", lambda: set(reasons(network, "alpha")) <= {"well", "idle"})

    # A copy of a home runs beside it: there and elsewhere that is told as what it is, not as a peer that was lost.
    network.daemons["delta"].stop()
    shutil.copytree(network.home("delta"), network.home("copy of delta"))
    network.start("delta")
    network.wait_ready("delta")
    places = zip(("PEER", "PUBLIC", "HTTP"), free_ports(3), strict=True)
    network.start("copy of delta", {f"LOSSBOOK_LISTEN_{place}": f"127.0.0.1:{port}" for place, port in places})
    wait_for(network, "delta", "twin", "Another process runs as delta")
    assert "[-] signing: Another process runs as delta" in network.readyz("delta")
    wait_for(network, "alpha", "peer-twin", "delta (from 127.0.0.1)")
    network.daemons["copy of delta"].kill()
    assert not any(network.detail(name)["evidence"] for name in ("alpha", "beta", "gamma")), "nobody signed twice"


def test_with_two_of_four_restored_nobody_signs_and_everybody_says_who_and_that_only_a_rebuild_helps(
    network: Network,
) -> None:
    assert final(network, "alpha") == gateway_pb2.STAGE_FINAL
    restored = ("delta", "gamma")
    for name in restored:
        network.daemons[name].stop()
    for name in restored:
        write_backup_marker(network.home(name), "This is a backup.")
        network.start(name)
    for name in ("alpha", "beta", *restored):
        found = wait_for(
            network, name, "too-many-muted", "delta and gamma may have forgotten votes", "2 of 4 validators"
        )
        assert "docs/operations.md, Rebuild" in found["too-many-muted"]["next_step"]
        assert "[-] quorum: delta and gamma may have forgotten votes" in network.readyz(name)
    for name in restored:
        assert "signs nothing in views up to" in reasons(network, name)["muted"]["text"]
        assert network.detail(name)["signing"] == "muted"
    stood_still = height(network)
    raw = network.envelope("alpha", policy_issue(policy_id=bytes(16)))
    assert network.submit("alpha", raw, timeout_s=5).stage < gateway_pb2.STAGE_FINAL
    assert height(network) == stood_still
    assert not any(network.detail(name)["evidence"] for name in ("alpha", "beta", *restored)), "nobody signed twice"

"""Sealed blobs over real TLS, from a real store: to validators' nodes, and to nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import pytest

from ledger.sealed import commitment_of
from lossbook.v1 import sealed_pb2, sealed_pb2_grpc
from services import sealed
from services.identity import Identity
from services.sealed import SealedServicer
from store.sealed import SealedStore
from tests.support.insurers import INSURERS, SUPERVISOR, market_genesis
from tests.support.tls import identity, market_members, serving
from tests.unit.services.test_auth import leaf_naming

SERVER, PEER = INSURERS[0], INSURERS[1]
SMALL = b"a sealed name" * 10
LARGE = bytes(range(256)) * 4500  # more than a chunk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SealedStore]:
    made = SealedStore(tmp_path / "sealed", market_genesis().chain_id)
    yield made
    made.close()


Parts = list[sealed_pb2.GetBlobsResponse]


def get(
    source: SealedStore | None, commitments: Sequence[bytes], caller: Identity | None = None
) -> tuple[Parts, grpc.StatusCode, str]:
    """What a caller (else another validator's node) is sent, and how the call ends."""
    who = caller or identity(PEER)
    service = (
        "lossbook.v1.SealedService",
        sealed_pb2_grpc.add_SealedServiceServicer_to_server,
        SealedServicer(source),
    )

    async def main() -> tuple[Parts, grpc.StatusCode, str]:
        parts: Parts = []
        async with (
            asyncio.timeout(20),
            serving(SERVER, service) as (address, _),
            who.channel(SERVER.id, address) as channel,
        ):
            stub = sealed_pb2_grpc.SealedServiceStub(channel)
            request = sealed_pb2.GetBlobsRequest(commitments=commitments)
            try:
                async for part in stub.GetBlobs(request, metadata=who.metadata):
                    parts.append(part)
            except grpc.aio.AioRpcError as error:
                return parts, error.code(), error.details() or ""
            return parts, grpc.StatusCode.OK, ""

    return asyncio.run(main())


def test_a_validators_node_gets_each_blob_whole_in_bounded_chunks(store: SealedStore) -> None:
    wanted = [store.put(LARGE), store.put(SMALL)]
    parts, code, _ = get(store, [*wanted, wanted[0]])
    assert code is grpc.StatusCode.OK
    assert [part.commitment for part in parts] == [wanted[0], wanted[0], wanted[1]]
    assert [part.total_bytes for part in parts] == [len(LARGE), len(LARGE), len(SMALL)]
    assert max(len(part.chunk) for part in parts) == 1 << 20
    for commitment in wanted:
        blob = b"".join(part.chunk for part in parts if part.commitment == commitment)
        assert commitment_of(blob) == commitment


def test_what_is_not_stored_is_named_after_what_is(store: SealedStore) -> None:
    here, elsewhere = store.put(SMALL), commitment_of(b"elsewhere")
    parts, code, text = get(store, [elsewhere, here])
    assert [part.chunk for part in parts] == [SMALL]
    assert code is grpc.StatusCode.NOT_FOUND
    assert "1 of 2" in text
    assert elsewhere.hex() in text


def test_an_empty_store_says_that_nothing_is_sealed_yet(store: SealedStore) -> None:
    parts, code, text = get(store, [commitment_of(b"x")])
    assert (parts, code) == ([], grpc.StatusCode.NOT_FOUND)
    assert "No operation of this version seals a field" in text


def test_many_that_are_missing_are_counted_and_the_first_named(store: SealedStore) -> None:
    missing = [commitment_of(bytes([at])) for at in range(sealed.COMMITMENTS_MAX)]
    _, code, text = get(store, missing)
    assert code is grpc.StatusCode.NOT_FOUND
    assert "256 of 256" in text
    assert missing[3].hex() in text
    assert missing[4].hex() not in text


@pytest.mark.parametrize("commitments", [[], [b"short"], [bytes(32)] * (sealed.COMMITMENTS_MAX + 1)])
def test_invalid_questions_are_refused(store: SealedStore, commitments: list[bytes]) -> None:
    parts, code, text = get(store, commitments)
    assert (parts, code) == ([], grpc.StatusCode.INVALID_ARGUMENT)
    assert "1 to 256 commitments of 32 bytes" in text


@pytest.mark.parametrize(
    "caller", [identity(PEER, "client"), identity(SUPERVISOR, "replica")], ids=["a client", "a replica"]
)
def test_invalid_callers_who_are_members_and_hold_no_grant(store: SealedStore, caller: Identity) -> None:
    parts, code, text = get(store, [store.put(SMALL)], caller)
    assert (parts, code) == ([], grpc.StatusCode.PERMISSION_DENIED)
    assert "no grant names other readers yet" in text


def test_invalid_caller_in_a_validators_name(store: SealedStore) -> None:
    leaf, key = leaf_naming(PEER.id, INSURERS[2])
    parts, code, _ = get(store, [store.put(SMALL)], Identity(PEER.id, leaf, key, market_members()))
    assert (parts, code) == ([], grpc.StatusCode.UNAUTHENTICATED)


def test_invalid_blob_on_disk_is_not_handed_out(store: SealedStore) -> None:
    commitment = store.put(SMALL)
    store._level.write({b"s" + commitment: LARGE}, sync=True)
    parts, code, text = get(store, [commitment])
    assert (parts, code) == ([], grpc.StatusCode.DATA_LOSS)
    assert "ask another" in text


def test_a_node_that_cannot_open_its_store_says_so() -> None:
    parts, code, text = get(None, [bytes(32)])
    assert (parts, code) == ([], grpc.StatusCode.UNAVAILABLE)
    assert "ask another" in text

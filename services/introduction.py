"""Getting to know the present TLS authority of a member that replaced its ledger key while one was away.

Whoever is far behind knows the authorities of its last block. If all whom it could ask have new ones by now, nobody is
left to tell it. But a card proves itself, whoever brings it: so it is asked for on a connection that authenticates
nobody, and believed for what it proves.

    1  connect to the address; the certificate that is shown there is kept, whoever's it may be
    2  ask under exactly this certificate for the record of the organisation's card, with its proof
    3  verify the proof from the epochs that are known: the hand-overs in it prove themselves (consensus.md §10)
    4  it is of a block of the last minute, so a key that was replaced before cannot pass for the present one
    5  the certificate of 1 was issued by the ledger key on that card: whoever answered holds it

Then one dials anew, under the authority of the card alone. What an impostor learns of it is who asked, and for whose
card.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import grpc
import msgspec

from crypto.tls import TlsIdentityError, check_leaf
from ledger.cards import Card, GenesisError, card_of_record, check_card
from ledger.genesis import Genesis
from ledger.known_epochs import KnownEpochs
from ledger.organisations import CARDS
from ledger.printable import one_line
from ledger.proof_errors import ProofError
from ledger.proof_types import Proof
from ledger.proofs import verify_proof
from ledger.wire import WireError
from ledger.wire.proofs import decode_record_proof
from lossbook.v1 import query_pb2, query_pb2_grpc
from services.identity import Identity
from services.server import ListenError, split_address

ANSWER_S: Final = 5.0
"""For the certificate, and for the record: some round trips of a slow link."""

RECENT_MS: Final = 60_000
"""An idle network makes a block every ten seconds; clocks differ by less than the rest. As ``lossbook_sdk`` has it."""


class NotIntroduced(Exception):
    """Nobody at that address proves to be the organisation; the text says why."""


class Introduced(msgspec.Struct, frozen=True):
    """A member as of now."""

    card: Card
    height: int
    """State that has this card."""


async def introduce(
    identity: Identity, organisation: str, address: str, genesis: Genesis, known: KnownEpochs, now_ms: Callable[[], int]
) -> Introduced:
    """See the module text.

    Args:
        identity: who asks; its members need not know the organisation's present authority.
        address: host:port.
        known: what is verified from: own epochs, above own blocks and the accepted checkpoint.
        now_ms: wall clock.

    Raises:
        NotIntroduced: see there.
    """
    leaf = await _leaf_at(address)
    request = query_pb2.GetRecordRequest(key=CARDS.prefix + organisation.encode(), prove=True)
    try:
        async with identity.channel(organisation, address, authority=leaf) as channel:
            stub = query_pb2_grpc.QueryServiceStub(channel)
            answer = await stub.GetRecord(request, timeout=ANSWER_S, metadata=identity.metadata)
        if not answer.HasField("proof"):
            raise NotIntroduced("it proves no card")
        proven = verify_proof(Proof(genesis.chain_id, decode_record_proof(answer.proof)), genesis, known=known)
        if proven.key != request.key:
            raise NotIntroduced("it proves another record")
        if now_ms() - proven.header.timestamp_ms > RECENT_MS:
            raise NotIntroduced("it proves its card by no block of the last minute")
        card = card_of_record(CARDS.decode(proven.value))
        check_card(card)
        if check_leaf(leaf, card.ledger_key).org != organisation:
            raise NotIntroduced("its certificate names another organisation")
    except grpc.aio.AioRpcError as error:
        raise NotIntroduced(f"{error.code().name}: {one_line(error.details() or '')}") from error
    except (WireError, ProofError) as error:
        raise NotIntroduced(f"what it proves does not verify: {error}") from error
    except (GenesisError, TlsIdentityError) as error:
        raise NotIntroduced(f"its certificate is not of the ledger key on its card: {error}") from error
    return Introduced(card, proven.header.state_height)


async def _leaf_at(address: str) -> bytes:
    """The certificate that is shown at an address, PEM; nothing of it is checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    try:
        host, port = split_address(address)
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, ListenError) as error:  # TimeoutError and ssl.SSLError are OSErrors
        raise NotIntroduced(f"nobody answers there: {error}") from error
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()  # nothing is to be said on it
    if not shown:
        raise NotIntroduced("it shows no certificate")
    return ssl.DER_cert_to_PEM_cert(shown).encode()

"""The block nobody voted for: height 0, or one above the last block of a network before; view 0, no certificate."""

from __future__ import annotations

from consensus.types import Header
from crypto.hashing import ZERO_DIGEST
from crypto.merkle import root as merkle_root
from crypto.merkle import root_of_hashes
from ledger import commitment, receipts_range, wire
from ledger.genesis import Genesis, genesis_records


def genesis_header(
    *,
    time_ms: int,
    state_root: bytes,
    receipts_root: bytes,
    valset_hash: bytes,
    scheme: int,
    height: int = 0,
    epoch: int = 0,
    parent_digest: bytes = ZERO_DIGEST,
) -> Header:
    """Header of the genesis block.

    Its chain_id and justification are zero, and so is its parent, unless that is the last block of a network before;
    time is the genesis file's; the roots are those of the state that the genesis block leaves. The digest is that of
    any header.
    """
    return wire.encode_header(
        version=1,
        chain_id=ZERO_DIGEST,
        epoch=epoch,
        height=height,
        view=0,
        parent_view=0,
        parent_digest=parent_digest,
        payload_root=merkle_root(()),
        justification_digest=ZERO_DIGEST,
        timestamp_ms=time_ms,
        state_height=height,
        state_root=state_root,
        receipts_root=receipts_root,
        valset_hash=valset_hash,
        state_scheme=scheme,
    )


def genesis_header_of(genesis: Genesis) -> Header:
    """The header of the genesis block from the file alone, without a store: what offline verification compares with.

    Costs one hash for each organisation and signing key. Roots of books that are carried on are taken from the file:
    who takes part has computed them (``ledger.succession``), and the chain id that all compared covers them.
    """
    before = genesis.predecessor
    if before is not None:
        return genesis_header(
            time_ms=genesis.time_ms,
            state_root=before.genesis_state_root,
            receipts_root=before.receipts_root,
            valset_hash=genesis.validator_set().hash,
            scheme=genesis.parameters.state_scheme,
            height=genesis.height,
            epoch=genesis.first_epoch,
            parent_digest=before.header_digest,
        )
    return genesis_header(
        time_ms=genesis.time_ms,
        state_root=_state_root(genesis),
        receipts_root=receipts_range.receipts_root(root_of_hashes(()), 0),
        valset_hash=genesis.validator_set().hash,
        scheme=genesis.parameters.state_scheme,
    )


def _state_root(genesis: Genesis) -> bytes:
    """Root of the log that ``State`` makes of the genesis records: in key order, all active."""
    written = sorted((table.prefix + key, table.encode(record)) for table, key, record in genesis_records(genesis))
    hashes = [commitment.leaf_hash(commitment.encode_leaf(commitment.PUT, 0, 0, *write)) for write in written]
    twigs = []
    for first in range(0, len(hashes), commitment.TWIG_LEAVES):
        inside = hashes[first : first + commitment.TWIG_LEAVES]
        bits = ((1 << len(inside)) - 1).to_bytes(commitment.BITMAP_BYTES, "little")
        twigs.append(commitment.twig_hash(root_of_hashes(inside), bits))
    return commitment.state_root(root_of_hashes(twigs), len(hashes))

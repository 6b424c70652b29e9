"""The block nobody voted for: height 0, view 0, finalized without a certificate."""

from __future__ import annotations

from consensus.types import Header
from crypto.hashing import ZERO_DIGEST
from crypto.merkle import root as merkle_root
from ledger import wire


def genesis_header(*, time_ms: int, state_root: bytes, receipts_root: bytes, valset_hash: bytes, scheme: int) -> Header:
    """Header of the genesis block.

    Its chain_id, parent and justification are zero; time is the genesis file's; the roots are those
    of the state built from the genesis file. The digest is that of any header.
    """
    return wire.encode_header(
        version=1,
        chain_id=ZERO_DIGEST,
        epoch=0,
        height=0,
        view=0,
        parent_view=0,
        parent_digest=ZERO_DIGEST,
        payload_root=merkle_root(()),
        justification_digest=ZERO_DIGEST,
        timestamp_ms=time_ms,
        state_height=0,
        state_root=state_root,
        receipts_root=receipts_root,
        valset_hash=valset_hash,
        state_scheme=scheme,
    )

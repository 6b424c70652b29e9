"""What executing an operation costs: contracts, records, commitment and receipts, without disk and network.

    python -m bench.execution [--claims 5000] [--operations 100] [--block 2000]

Prints microseconds of process CPU per operation, in total and by part.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256

from contracts.dispatch import CONTRACTS
from contracts.records import CLAIMS, POLICIES
from ledger import operations as ops
from ledger.contract import Contracts
from ledger.execution import BlockResult, ExecutableBlock, Execution, ListedBatch
from ledger.organisations import KEYS, ORGANISATIONS, KeyRecord, Kind, OrganisationRecord
from ledger.parameters import PARAMETERS, Parameters, ParametersRecord, activation_key
from ledger.state import State
from ledger.types import BatchHeader, Envelope
from ledger.wire import decode_envelope, encode_envelope, encode_envelope_body
from store.memory import MemoryStateStore

START_MS = 1_750_000_000_000
TODAY = START_MS // 86_400_000
INSURER = "insurer-1"
KEY = bytes(range(32))
ALL_ROLES = 127


def claim_operations(number: int) -> list[ops.Operation]:
    """One policy with one claim from issue to close: eight operations."""
    policy_id = sha256(b"policy%d" % number).digest()[:16]
    claim_id = sha256(b"claim%d" % number).digest()[:16]
    day = TODAY - 100
    return [
        ops.PolicyIssue(policy_id, policy_id, ops.Line.AUTO, "USD", 10_000_000, 0, day - 10, day + 10, day - 10),
        ops.ClaimNotify(claim_id, policy_id, day, day),
        ops.ClaimRegister(claim_id, day),
        ops.ClaimAssess(claim_id, day, 5_000),
        ops.ClaimApprove(claim_id, day, 5_000),
        ops.ClaimPay(claim_id, day, 5_000, "USD"),
        ops.ClaimClose(claim_id, day),
    ]


def envelopes_of(operations: Sequence[ops.Operation], size: int) -> Iterator[Envelope]:
    """Envelopes of ``size`` operations; their signatures are not checked here."""
    for at in range(0, len(operations), size):
        body = encode_envelope_body(
            chain_id=bytes(32),
            organisation=INSURER,
            signer_keys=[KEY],
            not_after_ms=START_MS + 3_600_000,
            salt=at.to_bytes(16, "big"),
            operations=operations[at : at + size],
        )
        yield decode_envelope(encode_envelope(body, [bytes(64)]))


def fresh_state(store: MemoryStateStore) -> State:
    """A state with one insurer whose one key has all roles."""
    state = State.open(store)
    state.put(PARAMETERS, activation_key(0), ParametersRecord.from_parameters(Parameters()))
    state.put(ORGANISATIONS, INSURER.encode(), OrganisationRecord(Kind.INSURER, INSURER, KEY, (KEY,), 1, True, True))
    state.put(KEYS, KEY, KeyRecord(INSURER, ALL_ROLES))
    store.commit(state.commit(0, START_MS, []))
    return state


def run(blocks: Sequence[Sequence[Envelope]], contracts: Contracts) -> tuple[float, list[BlockResult]]:
    """Seconds of CPU, and the results."""
    store = MemoryStateStore()
    execution = Execution(fresh_state(store), contracts)
    header = BatchHeader(bytes(32), 0, INSURER, 1, 1, bytes(32), 1, 0, bytes(32), bytes(32), bytes(32), b"")
    results = []
    gc.collect()
    gc.freeze()
    started = time.process_time()
    for at, envelopes in enumerate(blocks):
        block = ExecutableBlock(at + 1, START_MS + at + 1, bytes(32), [ListedBatch(header, envelopes)])
        result = execution.run(block)
        store.commit(result.writes)
        results.append(result)
    return time.process_time() - started, results


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--claims", type=int, default=5_000)
    arguments.add_argument("--operations", type=int, default=100, help="per envelope")
    arguments.add_argument("--block", type=int, default=2_000, help="operations per block")
    options = arguments.parse_args()

    operations = [operation for i in range(options.claims) for operation in claim_operations(i)]
    started = time.process_time()
    envelopes = list(envelopes_of(operations, options.operations))
    made = time.process_time() - started
    per_block = max(1, options.block // options.operations)
    blocks = [envelopes[at : at + per_block] for at in range(0, len(envelopes), per_block)]

    seconds, results = run(blocks, CONTRACTS)
    refused = sum(1 for result in results for receipt in result.receipts if receipt.code)
    empty_seconds, _ = run(blocks, {})
    count = len(operations)
    print(f"operations {count}, blocks {len(blocks)}, envelopes refused {refused}")
    print(f"encode and decode envelopes   {made / count * 1e6:6.1f} us an operation")
    print(f"execute and commit            {seconds / count * 1e6:6.1f} us an operation")
    print(f"  without contracts           {empty_seconds / count * 1e6:6.1f} us an operation")
    print(f"record prefixes: policies {POLICIES.prefix.hex()}, claims {CLAIMS.prefix.hex()}")


if __name__ == "__main__":
    main()

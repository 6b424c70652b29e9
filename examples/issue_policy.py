"""Issue a policy, read it back with its proof, verify it offline.

lossbook testnet init && lossbook testnet start
python examples/issue_policy.py [PROFILE]
"""

import sys

from ledger.proofs import verify_bytes
from ledger.wire.proofs import encode_proof
from lossbook_sdk.answers import Stage
from lossbook_sdk.client import Client

POLICIES = b"\x10"  # the table of policies, docs/protocol.md


def main() -> None:
    """Run the example."""
    profile = sys.argv[1] if len(sys.argv) > 1 else None
    with Client.from_profile(profile) as client:
        issued = client.issue_policy(
            line="home",
            limit="300,000.00 USD",
            deductible="500.00 USD",
            start="2025-01-01",
            end="2025-12-31",
            wait=Stage.PROVEN,
        )
        receipt = issued.status.receipt
        print(f"policy {issued.policy_id.hex()} issued in block {receipt.height if receipt else '?'}")

        found = client.record(POLICIES + issued.policy_id, prove=True)
        if found is None or found.proof is None:
            sys.exit("the record is not there")
        proven = verify_bytes(encode_proof(found.proof), client.genesis)  # needs the genesis file, and nobody's word
        print(f"proved: it stands in the state after block {proven.header.state_height}")


if __name__ == "__main__":
    main()

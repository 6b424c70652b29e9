"""The root of the ``lossbook`` command.

The table below is all that ``lossbook --help`` reads: the module of a noun is imported when the noun is used.
"""

from __future__ import annotations

import os

import click

from cli.base import Root

# gRPC reads these when it is first imported. Daemons are started by exec, never by fork alone, so its fork handlers
# have nothing to do but to say so on stderr.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

NOUNS = {
    "genesis": ("cli.genesis", "The ceremony that founds a network: cards, genesis file, its digest."),
    "testnet": ("cli.testnet", "A whole network on this machine, made with the ceremony's own code."),
    "node": ("cli.node", "A validator's daemon: make its home, run it, see why it waits."),
    "replica": ("cli.replica", "A supervisor's read-only daemon: follow, verify, report."),
    "key": ("cli.key", "Private keys in encrypted files."),
    "profile": ("cli.profile", "Who you are and where your commands go."),
    "tx": ("cli.tx", "Envelopes made offline, co-signed, submitted, looked up."),
    "policy": ("cli.policy", "Issue and read policies."),
    "claim": ("cli.claim", "Notify, decide, pay and read claims."),
    "record": ("cli.record", "Any record of the state, with its proof."),
    "proof": ("cli.proof", "Check proofs offline."),
    "checkpoint": ("cli.checkpoint", "What people vouch for: make, sign, verify and accept checkpoints."),
    "governance": ("cli.governance.command", "Who validates, with which keys, by which parameters: propose and vote."),
    "evidence": ("cli.evidence", "Who broke the rules of consensus, provably."),
    "block": ("cli.block", "Blocks, one by one or as they come."),
    "demo": ("cli.demo.command", "The main job, end to end, on real claims."),
    "sim": ("cli.sim.command", "Attack the consensus in virtual time, reproducibly."),
    "chaos": ("cli.chaos", "Real daemons under faults from outside, and what their clients saw."),
    "doctor": ("cli.doctor", "Look at this machine, a profile and a home, and say what to mend."),
    "version": ("cli.version", "Print the installed version."),
    "completion": ("cli.completion", "Print the script that completes commands in your shell."),
}


@click.group(
    cls=Root,
    lazy={name: (f"{module}:command", text) for name, (module, text) in NOUNS.items()},
    example="lossbook testnet init --unsafe-no-passphrase && lossbook testnet start",
)
@click.option("--debug", is_flag=True, expose_value=False, help="Show where an error was raised (or LOSSBOOK_DEBUG).")
def main() -> None:
    """A permissioned ledger for insurance.

    Insurers run nodes and agree on signed policy and claim transactions; supervisors run replicas that verify
    everything themselves.

    Exit codes: 0 done, 1 refused or failed, 2 usage, 3 node unreachable, 4 verification failed.
    """

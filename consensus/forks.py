"""Who made a fork: two conflicting final chains, accepted with their ancestors, convict more than f validators.

Let c be final in view v on one chain, and b the first block of the other with a view not below v and a parent view p
not above it. Either b or its parent's certificate is for another block in v: its quorum and that of c meet (N/N, F/F,
N with F). Or p < v < view(b): then b's justification holds a nullification of v, whose quorum meets that of c (X with
F), or it does not, and everybody who notarized b signed a false header. Two quorums share 2Q - n >= f + 1 validators
(consensus.md §11).

So nothing has to be searched for: every vote in either chain's certificates is laid beside every other of its signer
and view.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from consensus.evidence import ConflictingVotes, Evidence, FalseJustification, conflict
from consensus.justification import HeaderRules
from consensus.types import Certificate, Header, Justification, Vote, VoteKind
from consensus.votes import VoteChecker


@dataclass(frozen=True, slots=True)
class FinalChain:
    """Blocks of one epoch up to a final one, as whoever accepted them has them."""

    blocks: tuple[tuple[Header, Justification], ...]
    """Each the child of the one before; the first one's parent is on both chains, at best the epoch's genesis."""
    certificates: tuple[Certificate, ...]
    """The Finalization of the last block; more of what is held may convict more."""


def conflicting(one: FinalChain, other: FinalChain) -> bool:
    """Whether no honest network makes both: they have different blocks at one height."""
    digests = {header.height: header.digest for header, _ in one.blocks}
    return any(digests.get(header.height, header.digest) != header.digest for header, _ in other.blocks)


def culprits(one: FinalChain, other: FinalChain, rules: HeaderRules, checker: VoteChecker) -> list[Evidence]:
    """Evidence against everybody whom the two chains convict, one piece for each act; by view, culprit and kind.

    Whatever in them is not genuine convicts nobody, so a forged chain harms no honest validator.

    Args:
        rules, checker: of the chains' epoch.
    """
    votes: dict[tuple[int, int], dict[Vote, None]] = defaultdict(dict)
    for vote in _votes((one, other)):
        seen = votes[vote.view, vote.signer]
        if vote not in seen and vote.epoch == rules.validators.epoch and checker.vote_problem(vote) is None:
            seen[vote] = None
    found: dict[tuple[int, int, int], Evidence] = {}
    for evidence in (*_contradictions(votes.values()), *_false(votes.values(), (one, other), rules, checker)):
        found.setdefault((evidence.vote.view, evidence.culprit, evidence.kind), evidence)
    return [found[key] for key in sorted(found)]


def _votes(chains: Iterable[FinalChain]) -> Iterator[Vote]:
    for chain in chains:
        for _, justification in chain.blocks:
            for certificate in justification.certificates:
                yield from certificate.votes()
        for certificate in chain.certificates:
            yield from certificate.votes()


def _contradictions(votes: Iterable[Iterable[Vote]]) -> Iterator[Evidence]:
    for of_one_signer_and_view in votes:
        ordered = sorted(of_one_signer_and_view, key=lambda vote: (vote.kind, vote.target, vote.signature))
        for first, second in combinations(ordered, 2):
            if conflict(first, second):
                yield ConflictingVotes(first, second)


def _false(
    votes: Iterable[Iterable[Vote]], chains: Iterable[FinalChain], rules: HeaderRules, checker: VoteChecker
) -> Iterator[Evidence]:
    false: dict[bytes, tuple[Header, Justification, str]] = {}
    for chain in chains:
        for header, justification in chain.blocks:
            if header.digest in false or justification.digest != header.justification_digest:
                continue
            problem = rules.justification_problem(
                header, justification, lambda certificate: checker.certificate_problem(certificate, lambda _: False)
            )
            if problem:
                false[header.digest] = (header, justification, problem)
    for of_one_signer_and_view in votes:
        for vote in of_one_signer_and_view:
            if vote.kind is VoteKind.NOTARIZE and vote.digest in false:
                yield FalseJustification(vote, *false[vote.digest])

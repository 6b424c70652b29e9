"""The start-up rule: no vote before the others were asked what this node may have signed (consensus.md §5).

A restored backup looks like a crash, and would sign twice. So every start asks for answers bound to its nonce, and
signs only after Q-1 others gave one. If they hold a vote of this node that its log lacks, or the home carries the
backup marker, nothing is signed up to ``max(answers) + 1``.

An answer counts once this node holds a certificate of the view below the answer's highest signed view (the answering
node sends it along). Nobody honest signs in a view it has not entered, so honest answers always come to count, and a
liar cannot mute this node for ever by naming a view that does not exist yet. Why one honest answer is enough: this
node entered its highest signed view w by a certificate of w-1; its signers and the answering nodes are Q-1 of the n-1
others each, so they share at least n - 2f - 1 >= f, and this node, having lost its votes, is one of the f.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class StartUp:
    """One start's query."""

    nonce: bytes
    needed: int
    """Answers that have to count: Q - 1."""
    restored_from_backup: bool
    ask_again_ms: int
    done: bool = False
    lost_view: int = 0
    """Highest view with an own vote the log lacks; 0 if there is none. Its signature is proof, whoever showed it."""
    answers: dict[int, int] = field(default_factory=dict)
    """Answering validator -> its highest signed view."""

    def credible(self, reachable_view: int) -> list[int]:
        """The answers that count: highest signed views this node knows to be reachable."""
        return [view for view in self.answers.values() if view <= reachable_view]

    def bound(self, reachable_view: int, own_highest_view: int) -> int | None:
        """None while answers are missing; else the view up to which nothing is signed, 0 if nothing contradicts.

        ``own_highest_view`` matters only where nobody else exists to ask (n = 1).
        """
        credible = self.credible(reachable_view)
        if len(credible) < self.needed:
            return None
        if not self.restored_from_backup and not self.lost_view:
            return 0
        return max([*credible, self.lost_view, own_highest_view]) + 1

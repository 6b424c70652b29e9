"""A leader that lists its own batches before anybody holds them, gives them to a few, and serves them to nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from consensus.types import Proposal
from ledger import wire
from ledger.types import Batch
from node.batches import NO_HEAD
from node.turn import Fetch
from simulator.adversaries.liar import Liar, Send, to_each
from simulator.serving import Answer


class WithheldBody(Liar):
    """Those who get the body may vote; the others must not, and must not wait for ever."""

    def outgoing(self, sends: Sequence[Send]) -> Iterable[Send]:
        """Own batches reach a random part of the others; own proposals list them at once."""
        for to, message in sends:
            if isinstance(message, Batch) and message.header.origin == self.id:
                self.lie("withholds a batch")
                lucky = self.random.sample(self.others, self.random.randrange(len(self.others)))
                for target in to_each(self.others, to):
                    if target in lucky:
                        yield target, message
            elif to is None and isinstance(message, Proposal) and message.vote.signer == self.seat:
                yield to, self._listing_own(message)
            else:
                yield to, message

    def _listing_own(self, proposal: Proposal) -> Proposal:
        """The proposal with the next of its own batches, acknowledged or not."""
        parent = self.validator._branches.settled(proposal.header.parent_digest)
        listed = wire.decode_payload(proposal.payload).batch_digests
        head = (parent.heads or {}).get(self.id, NO_HEAD) if parent is not None else NO_HEAD
        pool = self.validator._batches.pool
        own = next((known.batch.header.digest for known in pool.successors(self.id, head)), None)
        if own is None or own in listed:
            return proposal
        self.lie("lists what nobody holds")
        return self.proposal(proposal, payload=wire.encode_payload((own, *listed)).raw)

    def serve(self, fetch: Fetch) -> Answer:
        """Nothing of its own."""
        answer = super().serve(fetch)
        batches = tuple(raw for raw in answer.batches if wire.decode_batch(raw).header.origin != self.id)
        return Answer(batches=batches, proposals=answer.proposals)

"""What a verifier knows of a network's epochs, and how a proof's hand-overs add to it.

A verifier starts from the genesis file, or from a checkpoint that people it trusts signed. Each proof brings the
hand-overs from the genesis' epoch to its own; those that are known already are compared and cost no signature check,
those that are new are verified and known from then on. So a client that verifies many proofs checks each hand-over
once, and one that holds a checkpoint never believes a second history below it, whoever's old keys signed that
(consensus.md §10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from consensus.justification import tail_problem
from consensus.types import Header
from ledger.genesis import Genesis
from ledger.header_chain import EpochStart, NamedJob, hand_over
from ledger.proof_errors import BadHeaderChain, BelowCheckpoint, ConflictingHistory
from ledger.proof_types import HandOver


class KnownEpochs(msgspec.Struct, frozen=True):
    """Epochs that were verified, or vouched for; immutable, so that a failed proof leaves no trace."""

    chain_id: bytes
    starts: Mapping[int, EpochStart]
    """By epoch, without a gap: from the genesis' epoch, or from the checkpoint's."""
    floor: int = 0
    """Height below which nothing is believed: the checkpoint's."""
    floor_digest: bytes = b""
    """Of the header at that height, 32 bytes; empty without a checkpoint."""
    first_epoch: int = 0
    """Of the genesis, from which on proofs bring hand-overs."""

    @classmethod
    def of_genesis(cls, genesis: Genesis) -> KnownEpochs:
        """Its first epoch and nothing more."""
        first = genesis.first_epoch
        return cls(genesis.chain_id, {first: EpochStart.of_genesis(genesis)}, first_epoch=first)

    def above(self, height: int, digest: bytes, start: EpochStart) -> KnownEpochs:
        """With a checkpoint: nothing below its height is believed any more, nor another block there.

        Args:
            height, digest: of the checkpoint's header.
            start: of its epoch.

        Raises:
            ConflictingHistory: what is known of its epoch is of another history.
        """
        epoch = start.validators.epoch
        found, after = self.starts.get(epoch), self.starts.get(epoch + 1)
        if found is not None and found.identity != start.identity:
            raise ConflictingHistory(f"epoch {epoch}", "the checkpoint has other validators than were proved before")
        if found is not None and after is not None:
            _check_end(after.genesis, height, digest)
        starts = self.starts if found is not None else {epoch: start}
        return msgspec.structs.replace(self, starts=starts, floor=height, floor_digest=digest)

    @property
    def latest(self) -> EpochStart:
        """The last epoch that is known."""
        return self.starts[max(self.starts)]

    def follow(self, hand_overs: Sequence[HandOver]) -> tuple[KnownEpochs, list[NamedJob]]:
        """What is known once these hand-overs, of the genesis' epoch and all that follow in order, are taken in.

        Returns:
            The epochs, to be used only if all of the signatures returned beside them are good.

        Raises:
            ConflictingHistory: a hand-over out of, or into, a known epoch is another one than is known.
            ProofError: a new one does not show what it claims.
        """
        starts, jobs = dict(self.starts), list[NamedJob]()
        first = min(starts)
        for epoch, each in enumerate(hand_overs, self.first_epoch):
            if epoch + 1 in starts:
                _check_same(each, starts[epoch + 1])
            elif epoch >= first:
                _check_end(each.headers[0].header, self.floor, self.floor_digest)
                starts[epoch + 1], more = hand_over(
                    each.headers, each.finalization, each.members, self.chain_id, starts[epoch]
                )
                jobs += more
        return msgspec.structs.replace(self, starts=starts), jobs

    def start_for(self, header: Header) -> EpochStart:
        """What a header is verified from.

        Raises:
            BelowCheckpoint: it lies before everything this verifier believes.
            ConflictingHistory: another header of its height is believed, or its epoch was over before it.
            BadHeaderChain: nothing leads to its epoch.
        """
        epoch, height = header.epoch, header.height
        if epoch < min(self.starts) or height < self.floor:
            raise BelowCheckpoint(f"header of height {height}", f"the checkpoint is of height {self.floor}")
        if self.floor_digest and height == self.floor and header.digest != self.floor_digest:
            raise ConflictingHistory(f"header of height {height}", "the checkpoint has another block there")
        found = self.starts.get(epoch)
        if found is None:
            raise BadHeaderChain(
                f"header of height {height}", f"it is of epoch {epoch}; the hand-overs end at {max(self.starts)}"
            )
        end = self.end_before(header)
        if end is not None:
            raise ConflictingHistory(f"header of height {height}", f"block {end.height} ended epoch {epoch} before it")
        return found

    def end_before(self, header: Header) -> Header | None:
        """The block that ended the header's epoch, if that is known and the header can be neither it nor before it.

        Old keys sign anything but the past: a quorum of an epoch that is over shows nothing above its end. Tails of
        the block repeat its height, time and state, and say nothing else.
        """
        after = self.starts.get(header.epoch + 1)
        if after is None or header.digest == after.genesis.digest:
            return None
        end = after.genesis
        if header.height < end.height and header.timestamp_ms < end.timestamp_ms:
            return None
        return None if tail_problem(header, end) is None else end


def _check_end(end: Header, height: int, digest: bytes) -> None:
    """That this block may have ended its epoch: a checkpoint in that epoch lies below it, or is the block itself."""
    if height >= end.height and digest != end.digest:
        raise ConflictingHistory(
            f"end of epoch {end.epoch}", f"block {end.height} ended it, and the checkpoint has block {height} in it"
        )


def _check_same(given: HandOver, known: EpochStart) -> None:
    boundary = given.headers[0].header
    if boundary.digest != known.genesis.digest:
        raise ConflictingHistory(
            f"end of epoch {known.validators.epoch - 1}",
            f"block {boundary.digest.hex()[:16]} ends it here, {known.genesis.digest.hex()[:16]} did before",
        )

"""Checkpoints: who has to vouch for one, and what a verifier refuses that has accepted one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec
import pytest

from crypto.keys import SigningKey
from ledger import operations as ops
from ledger.checkpoints import (
    DAY_MS,
    Anchor,
    Checkpoint,
    CheckpointBehind,
    CheckpointConflict,
    CheckpointError,
    TrustingPeriodOver,
    Unconfirmed,
    UnreadableCheckpoint,
    check_age,
    confirmers_of,
    decode_checkpoint,
    encode_checkpoint,
    make_checkpoint,
)
from ledger.epochs import EPOCHS
from ledger.header_chain import EpochStart
from ledger.known_epochs import KnownEpochs
from ledger.proof_building import header_proof, record_proof
from ledger.proof_errors import BelowCheckpoint, ConflictingHistory
from ledger.proof_types import Proof
from ledger.proofs import verify_header_proof, verify_proof
from ledger.vouching import confirm, judge
from tests.support.epoch_chain import EpochChain, guest
from tests.support.insurers import INSURERS, SUPERVISOR, Organisation, key_of
from tests.support.voting import plain_card, seat_card

EVERYBODY = (*INSURERS, SUPERVISOR)


class History:
    """Epochs 0 to 2; a guest joins with epoch 1, insurer-1 leaves with epoch 2."""

    def __init__(self) -> None:
        chain = self.chain = EpochChain()
        self.anchors = {0: Anchor.of_genesis(chain.genesis)}
        self.points: dict[int, Checkpoint] = {}
        chain.block()
        self.point(0)
        new = guest(1)
        chain.house.known[new.id] = new
        chain.change("join", ops.SetChange(add=(seat_card(new),)), tails=(0,))
        chain.block()
        self.point(1)
        chain.change("leave", ops.SetChange(remove=(INSURERS[0].id,)))
        chain.block()
        chain.block()
        self.point(2)

    def point(self, name: int) -> None:
        chain = self.chain
        header = chain.headers[-1].justified.header
        confirmers = confirmers_of(chain.ledger.state, [member.id for member in chain.validators.members])
        start = EpochStart(chain.validators, chain.start)
        self.points[name] = make_checkpoint(chain.genesis.chain_id, header, start, confirmers)


@cache
def history() -> History:
    return History()


def signed(checkpoint: Checkpoint, *by: Organisation) -> Checkpoint:
    for organisation in by:
        checkpoint = checkpoint.signed(organisation.id, organisation.ledger_key)
    return checkpoint


def altered(checkpoint: Checkpoint, **changes: object) -> bytes:
    """The file of a checkpoint whose text says something else."""
    body = msgspec.structs.replace(checkpoint.body, **changes)
    return encode_checkpoint(msgspec.structs.replace(checkpoint, text=msgspec.json.encode(body).decode()))


# -- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_checkpoint_survives_its_file(epoch: int) -> None:
    point = signed(history().points[epoch], *EVERYBODY)
    assert decode_checkpoint(encode_checkpoint(point)) == point
    assert encode_checkpoint(decode_checkpoint(encode_checkpoint(point))) == encode_checkpoint(point)


def test_who_signs_again_signs_once() -> None:
    point = signed(history().points[0], SUPERVISOR, INSURERS[0], SUPERVISOR)
    assert [each.organisation for each in point.signatures] == [INSURERS[0].id, SUPERVISOR.id]


def test_invalid_bytes() -> None:
    raw = encode_checkpoint(history().points[0])
    for bad in (b"", b"{}", raw[:-3], raw.replace(b"checkpoint", b"czeckpoint", 1), b"[" * 100_000, bytes(2 << 20)):
        with pytest.raises(UnreadableCheckpoint, match="this is no checkpoint"):
            decode_checkpoint(bad)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 2},
        {"valset_hash": "00" * 32},
        {"height": 0},
        {"time_ms": 1},
        {"members": ()},
        {"confirmers": ()},
        {"header_digest": "00"},
        {"chain_id": "xyz"},
        {"state_height": 10_000},
        {"epoch_genesis": "ff"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_invalid_a_checkpoint_that_contradicts_itself(change: dict[str, object]) -> None:
    with pytest.raises(UnreadableCheckpoint):
        decode_checkpoint(altered(history().points[1], **change))


def test_invalid_an_epoch_on_another_networks_genesis() -> None:
    header = history().chain.headers[-1].justified.header
    with pytest.raises(UnreadableCheckpoint):
        decode_checkpoint(altered(history().points[0], epoch_genesis=header.raw.hex()))


# -- who has to vouch for it -------------------------------------------------------------------


def test_the_supervisor_and_f_plus_one_members_of_the_last_known_set_are_enough() -> None:
    point = signed(history().points[2], SUPERVISOR, INSURERS[0], INSURERS[3])
    assert confirm(point, history().anchors[0]) == ["insurer-1", "insurer-4", "supervisor"]


@pytest.mark.parametrize(
    ("by", "lacking"),
    [
        ((), "nobody known here"),
        (INSURERS, "the supervisor"),
        ((SUPERVISOR,), "2 more of insurer-1, insurer-2, insurer-3, insurer-4"),
        ((SUPERVISOR, INSURERS[1]), "1 more of insurer-1, insurer-3, insurer-4"),
        ((SUPERVISOR, INSURERS[1], guest(1)), "1 more of"),
    ],
    ids=["nobody", "no supervisor", "supervisor alone", "f members", "a member that is not known yet"],
)
def test_invalid_too_few_signatures(by: Sequence[Organisation], lacking: str) -> None:
    with pytest.raises(Unconfirmed, match=lacking) as caught:
        confirm(signed(history().points[2], *by), history().anchors[0])
    assert "lossbook checkpoint sign" in caught.value.advice


def test_invalid_signatures_by_other_keys_or_of_other_texts() -> None:
    stolen = key_of("somebody", "else")
    point = signed(history().points[2], SUPERVISOR, INSURERS[0])
    with pytest.raises(Unconfirmed, match=r"not counted: insurer-2 \(the signature is bad\)"):
        confirm(point.signed(INSURERS[1].id, stolen), history().anchors[0])
    other = signed(history().points[1], SUPERVISOR, *INSURERS)
    mixed = msgspec.structs.replace(history().points[2], signatures=other.signatures)
    with pytest.raises(Unconfirmed):
        confirm(mixed, history().anchors[0])
    assert isinstance(stolen, SigningKey)


def test_every_signature_that_does_not_count_has_its_reason() -> None:
    point, anchor = signed(history().points[2], SUPERVISOR, INSURERS[0], INSURERS[2], guest(1)), history().anchors[0]
    point = point.signed(INSURERS[1].id, key_of("somebody", "else")).signed("stranger", key_of("stranger", "ledger"))
    assert confirm(point, anchor) == ["insurer-1", "insurer-3", "supervisor"]
    why_not = {each.organisation: each.why_not for each in judge(point, anchor) if each.why_not}
    assert why_not == {
        guest(1).id: "the genesis does not know it as a supervisor or member of the set",
        "insurer-2": "the signature is bad",
        "stranger": "it is nobody's who may confirm a checkpoint",
    }


def test_invalid_two_signatures_of_one_organisation_are_named() -> None:
    point = signed(history().points[2], SUPERVISOR, INSURERS[0])
    twice = msgspec.structs.replace(point, signatures=(*point.signatures, point.signatures[0]))
    with pytest.raises(UnreadableCheckpoint, match="insurer-1 signed it twice"):
        decode_checkpoint(encode_checkpoint(twice))


def test_consensus_keys_confirm_nothing() -> None:
    point = signed(history().points[2], SUPERVISOR)
    for insurer in INSURERS:
        assert insurer.consensus_key is not None
        point = point.signed(insurer.id, insurer.consensus_key)
    with pytest.raises(Unconfirmed):
        confirm(point, history().anchors[0])


def test_a_network_without_a_supervisor_asks_for_a_quorum() -> None:
    anchor = history().anchors[0]
    unsupervised = tuple(each for each in anchor.confirmers if not each.is_supervisor)
    anchor = msgspec.structs.replace(anchor, confirmers=unsupervised)
    with pytest.raises(Unconfirmed, match="1 more of insurer-3, insurer-4"):
        confirm(signed(history().points[1], *INSURERS[:2]), anchor)
    assert len(confirm(signed(history().points[1], *INSURERS[:3]), anchor)) == 3


def test_later_checkpoints_are_confirmed_by_the_members_of_the_last_one() -> None:
    anchor = Anchor.of_checkpoint(history().points[1])
    new = guest(1)
    assert confirm(signed(history().points[2], SUPERVISOR, new, INSURERS[2]), anchor)
    anchor = Anchor.of_checkpoint(history().points[2])
    assert INSURERS[0].id not in {each.organisation for each in anchor.confirmers}, "it left"


def test_a_rotated_ledger_key_confirms_once_a_checkpoint_names_it() -> None:
    chain = EpochChain()
    chain.block()
    fresh = Organisation(SUPERVISOR.id, "supervisor")
    fresh.ledger_key = key_of(SUPERVISOR.id, "ledger", "2")
    before = Anchor.of_genesis(chain.genesis)
    chain.house.pass_("rotate", ops.CardChange(plain_card(fresh)))
    confirmers = confirmers_of(chain.ledger.state, [member.id for member in chain.validators.members])
    start = EpochStart(chain.validators, chain.start)
    points = []
    for _ in range(2):
        chain.block()
        header = chain.headers[-1].justified.header
        points.append(make_checkpoint(chain.genesis.chain_id, header, start, confirmers))
    with pytest.raises(Unconfirmed, match=r"supervisor \(it is by a ledger key that the genesis does not know\)"):
        confirm(signed(points[0], fresh, *INSURERS), before)
    assert confirm(signed(points[0], SUPERVISOR, *INSURERS[:2]), before)
    assert confirm(signed(points[1], fresh, *INSURERS[:2]), Anchor.of_checkpoint(points[0]))


# -- an anchor never goes back -------------------------------------------------------------------


def test_the_same_checkpoint_may_be_accepted_again() -> None:
    point = signed(history().points[1], SUPERVISOR, *INSURERS)
    assert confirm(point, Anchor.of_checkpoint(point))


def test_invalid_a_lower_checkpoint() -> None:
    anchor = Anchor.of_checkpoint(history().points[2])
    with pytest.raises(CheckpointBehind, match=r"lies below the checkpoint of height \d+\. A verifier never goes back"):
        confirm(signed(history().points[1], *EVERYBODY), anchor)


def test_invalid_another_block_of_the_same_height() -> None:
    point = history().points[1]
    other = decode_checkpoint(altered(point, header_digest="11" * 32))
    with pytest.raises(CheckpointConflict, match="has another block"):
        confirm(signed(other, *EVERYBODY), Anchor.of_checkpoint(point))


def test_invalid_another_set_in_the_same_epoch() -> None:
    other = EpochChain()
    other.change("renew", ops.SetChange())
    for _ in range(20):
        other.block()
    start = EpochStart(other.validators, other.start)
    header = other.headers[-1].justified.header
    confirmers = confirmers_of(other.ledger.state, [member.id for member in other.validators.members])
    point = make_checkpoint(other.genesis.chain_id, header, start, confirmers)
    assert point.chain_id == history().points[1].chain_id
    assert point.body.height > history().points[1].body.height
    with pytest.raises(CheckpointConflict, match="has other validators in epoch 1"):
        confirm(signed(point, *EVERYBODY), Anchor.of_checkpoint(history().points[1]))


def test_invalid_a_checkpoint_of_another_network() -> None:
    anchor = msgspec.structs.replace(history().anchors[0], chain_id=bytes(32))
    with pytest.raises(CheckpointConflict, match="is of network"):
        confirm(signed(history().points[1], *EVERYBODY), anchor)


# -- verifying from one --------------------------------------------------------------------------


def known(epoch: int) -> KnownEpochs:
    return history().points[epoch].known_epochs(history().chain.genesis)


def test_proofs_verify_from_a_checkpoint() -> None:
    chain = history().chain
    proof = Proof(chain.genesis.chain_id, record_proof(chain, chain.ledger.state, EPOCHS, (2).to_bytes(8, "big")))
    full = verify_proof(proof, chain.genesis)
    for epoch in (0, 1, 2):
        proven = verify_proof(proof, chain.genesis, known=known(epoch))
        assert proven.value == full.value
        assert proven.signatures <= full.signatures
    assert verify_proof(proof, chain.genesis, known=known(2)).signatures < full.signatures


def test_invalid_a_proof_below_the_checkpoint() -> None:
    chain = history().chain
    with pytest.raises(BelowCheckpoint):
        verify_header_proof(header_proof(chain, 1), known(2))
    height = history().points[1].body.height
    verify_header_proof(header_proof(chain, height), known(1))
    with pytest.raises(BelowCheckpoint):
        verify_header_proof(header_proof(chain, height - 1), known(1))
    height = history().points[2].body.height
    assert header_proof(chain, height - 1).subject.epoch == 2, "below it, in its own epoch"
    with pytest.raises(BelowCheckpoint):
        verify_header_proof(header_proof(chain, height - 1), known(2))


class Forged(History):
    """A second history, signed with the leaked keys of epoch 0: it parts before the first set change."""

    def __init__(self) -> None:
        chain = self.chain = EpochChain()
        chain.block()
        chain.block()
        chain.change("ours", ops.SetChange(remove=(INSURERS[3].id,)))
        for _ in range(3):
            chain.block()


def test_a_long_range_fork_with_old_keys_is_believed_from_the_genesis_and_refused_from_a_checkpoint() -> None:
    forged = Forged().chain
    assert forged.genesis.chain_id == history().chain.genesis.chain_id
    height = forged.finalized_height()
    after, _ = verify_header_proof(header_proof(forged, height), KnownEpochs.of_genesis(forged.genesis))
    assert after.latest.validators == forged.validators, "this is what makes checkpoints necessary"
    with pytest.raises(ConflictingHistory):
        verify_header_proof(header_proof(forged, height), known(1))


def test_invalid_another_block_at_the_height_of_the_checkpoint() -> None:
    """Keys of the checkpoint's own epoch leaked: the block that people vouched for stands."""
    forged = EpochChain()
    forged.block(skipped=1)
    with pytest.raises(ConflictingHistory, match="the checkpoint has another block there"):
        verify_header_proof(header_proof(forged, 1), known(0))


def stayed(blocks: int = 30) -> EpochChain:
    """Epoch 0 goes on."""
    chain = EpochChain()
    for _ in range(blocks):
        chain.block()
    return chain


def led_astray() -> KnownEpochs:
    """Of whoever was shown a forged epoch 1 while nothing else was known."""
    forged = Forged().chain
    proof = header_proof(forged, forged.finalized_height())
    return verify_header_proof(proof, KnownEpochs.of_genesis(forged.genesis))[0]


def test_invalid_a_checkpoint_in_an_epoch_that_is_known_to_have_ended_below_it() -> None:
    genuine, astray = stayed(), led_astray()
    end = astray.starts[1].genesis.height
    start = astray.starts[0]
    for height in (end, end + 1, 30):
        with pytest.raises(ConflictingHistory, match=f"block {end} ended it, and the checkpoint has block {height}"):
            astray.above(height, genuine.headers[height - 1].justified.header.digest, start)
    below = genuine.headers[end - 2].justified.header
    assert astray.above(below.height, below.digest, start).floor == end - 1


def test_a_checkpoint_at_the_block_that_ended_its_epoch_is_taken() -> None:
    chain = history().chain
    known_all, _ = verify_header_proof(
        header_proof(chain, chain.finalized_height()), KnownEpochs.of_genesis(chain.genesis)
    )
    end = known_all.starts[1].genesis
    from_there = known_all.above(end.height, end.digest, known_all.starts[0])
    verify_header_proof(header_proof(chain, end.height), from_there)
    verify_header_proof(header_proof(chain, chain.finalized_height()), from_there)
    stranger = KnownEpochs.of_genesis(chain.genesis).above(end.height, end.digest, known_all.starts[0])
    verify_header_proof(header_proof(chain, chain.finalized_height()), stranger)


def test_invalid_an_epoch_that_is_said_to_have_ended_below_the_checkpoint_in_it() -> None:
    """Who holds the checkpoint alone, and never saw the forged epoch before."""
    forged, block = Forged().chain, stayed().headers[24].justified.header
    known = KnownEpochs.of_genesis(forged.genesis)
    known = known.above(block.height, block.digest, known.latest)
    while forged.finalized_height() < 40:
        forged.block()
    with pytest.raises(ConflictingHistory, match="end of epoch 0"):
        verify_header_proof(header_proof(forged, 40), known)


# -- the trusting period -------------------------------------------------------------------------


def test_what_is_as_old_as_the_trusting_period_is_believed_and_what_is_older_is_not() -> None:
    check_age("it", 0, 30 * DAY_MS, 30, advice="ask")
    check_age("it", 30 * DAY_MS, 0, 30, advice="a clock that is behind is for others to notice")
    with pytest.raises(TrustingPeriodOver, match=r"it is 30 days old .* the trusting period is 30 days") as caught:
        check_age("it", 0, 30 * DAY_MS + 1, 30, advice="ask")
    assert isinstance(caught.value, CheckpointError)
    assert caught.value.advice == "ask"

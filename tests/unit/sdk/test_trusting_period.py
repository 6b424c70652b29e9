"""A client that comes late, and one that accepted a checkpoint."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from ledger import operations as ops
from ledger.checkpoints import (
    DAY_MS,
    Anchor,
    Checkpoint,
    CheckpointBehind,
    TrustingPeriodOver,
    confirmers_of,
    make_checkpoint,
)
from ledger.header_chain import EpochStart
from ledger.proof_errors import BelowCheckpoint, ConflictingHistory
from lossbook_sdk import pins, profile
from lossbook_sdk.trust import Trust
from tests.support.epoch_chain import EpochChain
from tests.support.insurers import FIRST, INSURERS, SUPERVISOR
from tests.unit.sdk.test_trust import later, proof

DAYS = 30


def clock(chain: EpochChain, day: float) -> int:
    return chain.genesis.time_ms + int(day * DAY_MS)


def trust_at(chain: EpochChain, path: Path, day: float, checkpoint: Checkpoint | None = None) -> Trust:
    """A client's process that runs so many days after the genesis."""
    now = clock(chain, day)
    return Trust(chain.genesis, path, checkpoint=checkpoint, trusting_days=DAYS, now_ms=lambda: now)


def point(chain: EpochChain, height: int | None = None) -> Checkpoint:
    """The checkpoint of its last block, or of the block of this height of its last epoch."""
    confirmers = confirmers_of(chain.ledger.state, [member.id for member in chain.validators.members])
    found = chain.headers[-1] if height is None else chain.final_header(height)
    assert found is not None
    header, start = found.justified.header, EpochStart(chain.validators, chain.start)
    made = make_checkpoint(chain.genesis.chain_id, header, start, confirmers)
    for organisation in (SUPERVISOR, *INSURERS):
        made = made.signed(organisation.id, organisation.ledger_key)
    return made


def fork(epochs: int) -> EpochChain:
    """Another history by the same keys, as long as ``later`` and a little more."""
    chain = EpochChain()
    chain.block()
    for epoch in range(epochs):
        chain.change(f"change {epoch}", ops.SetChange())
    for _ in range(4):
        chain.block()
    return chain


def test_a_client_believes_proofs_within_the_trusting_period_and_not_past_it(tmp_path: Path) -> None:
    chain, path = later(1), tmp_path / "known.json"
    assert trust_at(chain, path, 29).verify(proof(chain)).signatures
    with pytest.raises(TrustingPeriodOver, match=r"what was proved here last is 3[01] days old") as caught:
        trust_at(chain, path, 31).verify(proof(chain))
    assert "lossbook checkpoint accept" in caught.value.advice
    assert "trusting_period_days" in caught.value.advice


def test_the_period_begins_anew_with_each_newer_block_that_is_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "known.json"
    monkeypatch.setattr("tests.support.epoch_chain.BLOCK_MS", 2 * DAY_MS)
    chain = EpochChain()
    for _ in range(10):
        chain.block()
    trust_at(chain, path, 20).verify(proof(chain))
    assert trust_at(chain, path, 45).verify(proof(chain)).signatures, "25 days after the block that was proved last"
    with pytest.raises(TrustingPeriodOver):
        trust_at(chain, path, 52).verify(proof(chain))


def test_a_block_from_the_future_does_not_make_the_period_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "known.json"
    monkeypatch.setattr("tests.support.epoch_chain.BLOCK_MS", 100 * DAY_MS)
    chain = EpochChain()
    for _ in range(10):
        chain.block()
    trust_at(chain, path, 20).verify(proof(chain))
    with pytest.raises(TrustingPeriodOver):
        trust_at(chain, path, 51).verify(proof(chain))


def test_an_accepted_checkpoint_is_where_a_client_starts(tmp_path: Path) -> None:
    chain, path = later(2), tmp_path / "known.json"
    old = point(later(1))
    trust = trust_at(chain, path, 10, old)
    assert trust.latest_epoch == 1
    assert trust.verify(proof(chain)).signatures
    assert trust.latest_epoch == 2
    early = later(0)
    with pytest.raises(BelowCheckpoint):
        trust.verify(proof(early))
    again = trust_at(chain, path, 10, old)
    assert again.verify(proof(chain)).signatures, "also in the next process"


def test_a_long_range_fork_is_refused_by_a_client_with_a_checkpoint(tmp_path: Path) -> None:
    forged = fork(2)
    assert trust_at(forged, tmp_path / "none.json", 10).verify(proof(forged)).signatures, "without one it is believed"
    with pytest.raises(ConflictingHistory):
        trust_at(forged, tmp_path / "known.json", 10, point(later(1))).verify(proof(forged))


def test_a_client_that_was_led_astray_before_says_so(tmp_path: Path) -> None:
    forged, path = fork(2), tmp_path / "known.json"
    trust_at(forged, path, 10).verify(proof(forged))
    with pytest.raises(ConflictingHistory, match="other validators than were proved before"):
        trust_at(forged, path, 10, point(later(1)))


def test_what_was_learned_above_the_checkpoint_stays_known(tmp_path: Path) -> None:
    chain, path = later(2), tmp_path / "known.json"
    trust_at(chain, path, 10).verify(proof(chain))
    trust = trust_at(chain, path, 10, point(later(1)))
    assert trust.latest_epoch == 2


def test_a_profile_takes_the_checkpoint_of_its_network_and_its_own_period(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pins.DIRECTORY_VARIABLE, str(tmp_path / "pins"))
    chain = later(1)
    (tmp_path / "genesis.json").write_bytes(chain.genesis.raw)
    text = profile.render(
        organisation=FIRST.id, genesis="genesis.json", chain_id=b"", certificate="c", key="k", keys={}
    )
    file = tmp_path / "one.toml"
    file.write_text(text)
    assert profile.load(file).trusting_period_days == DAYS
    with pytest.raises(TrustingPeriodOver):
        Trust.of_profile(profile.load(file)).verify(proof(chain))
    file.write_text(f"trusting_period_days = 3650\n{text}")
    trust = Trust.of_profile(profile.load(file))
    trust.verify(proof(later(0)))
    pins.accept(pins.pin_path(chain.genesis.chain_id), point(chain), Anchor.of_genesis(chain.genesis))
    with pytest.raises(BelowCheckpoint):
        Trust.of_profile(profile.load(file)).verify(proof(later(0)))


def test_of_two_who_accept_at_once_the_higher_checkpoint_stays(tmp_path: Path) -> None:
    chain, path = EpochChain(), tmp_path / "pins" / "pin.json"
    for _ in range(12):
        chain.block()
    both_read = Anchor.of_genesis(chain.genesis)
    pins.accept(path, point(chain, 10), both_read)
    with pytest.raises(CheckpointBehind):
        pins.accept(path, point(chain, 5), both_read)
    kept = pins.read_pin(path, chain.genesis.chain_id)
    assert kept is not None
    assert kept.body.height == 10
    assert sorted(each.name for each in path.parent.iterdir()) == ["pin.json", "pin.json.lock"]


def test_a_pin_is_read_and_replaced_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, path = later(0), tmp_path / "pin.json"
    read, seen = pins.read_pin, list[str]()

    def read_pin(path: Path, chain_id: bytes) -> Checkpoint | None:
        with path.with_name("pin.json.lock").open("r+b") as another, pytest.raises(BlockingIOError):
            fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)
        seen.append("held")
        return read(path, chain_id)

    monkeypatch.setattr(pins, "read_pin", read_pin)
    pins.accept(path, point(chain), Anchor.of_genesis(chain.genesis))
    assert seen == ["held"]
    with path.with_name("pin.json.lock").open("r+b") as another:
        fcntl.flock(another, fcntl.LOCK_EX | fcntl.LOCK_NB)

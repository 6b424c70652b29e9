"""Why there is no progress, word for word: one text for each reason, and which comes first."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import node.reasons
from consensus.status import Status
from node.facts import PATIENCE_DELAYS, Facts, OwnBatch, PeerFacts, Reason, StoreFailure
from node.reasons import reasons
from tests.support.pages import read_page

MEMBERS = ("alpha", "beta", "delta", "gamma")
RUNNING = Status(
    epoch=0,
    view=57,
    leader=1,
    quorum=3,
    floor_view=55,
    floor_height=41,
    certified_view=55,
    signing="signing",
    start_answers=(2, 2),
    start_missing=(),
    muted_until_view=0,
    muted_peers=(),
    stopped=None,
    idle=False,
    silent=(),
    proposed=True,
    given_up=False,
    time_outs=0,
    notarizers=(),
    nullifiers=(),
    finalizers=(),
    missing_blocks=(),
    missing_nullifications=(),
    unjudged=(),
    clocks=(),
    evidence_count=0,
)
WELL = Facts(
    own="alpha",
    members=MEMBERS,
    consensus=RUNNING,
    finalized_height=41,
    executed_height=41,
    catching_up=False,
    snapshot=None,
    stalled_ms=0,
    delay_ms=500,
    heartbeat_ms=10_000,
    clock_delta_ms=2_000,
    peers=tuple(PeerFacts(name, True, "") for name in MEMBERS[1:]),
)
STALLED = msgspec.structs.replace(WELL, stalled_ms=PATIENCE_DELAYS * 500)


def facts(base: Facts, **changes: object) -> Facts:
    """Facts with other values; those of consensus are named as in ``Status``."""
    status = {name: changes.pop(name) for name in list(changes) if name in Status.__dataclass_fields__}
    return msgspec.structs.replace(base, consensus=replace(base.consensus, **status), **changes)  # type: ignore[arg-type]


def peers(**problems: str) -> tuple[PeerFacts, ...]:
    return tuple(PeerFacts(name, name not in problems, problems.get(name, "")) for name in MEMBERS[1:])


DIGEST = bytes.fromhex("c0ffee0123456789") + bytes(24)

CASES: dict[str, Facts] = {
    "well": WELL,
    "idle": facts(WELL, idle=True),
    "disk-full": facts(
        WELL,
        failure=StoreFailure("votes/00000001.log: write failed, disk full.", disk_full=True),
        free_bytes=1_230_000_000,
    ),
    "store-failed": facts(WELL, failure=StoreFailure("blocks: sync failed, input/output error.", disk_full=False)),
    "diverged": facts(WELL, divergence="finalized block 42 commits to another state at height 41"),
    "twin": facts(WELL, peers=[PeerFacts(name, False, "", speaks_of_a_twin=name != "gamma") for name in MEMBERS[1:]]),
    "too-many-muted": facts(STALLED, signing="muted", muted_until_view=60, muted_peers=((3, 58),)),
    "vote-log": facts(WELL, observing="the vote log is damaged.", signing="observer"),
    "no-seat": facts(WELL, own="omega", signing="observer", epoch=3),
    "no-key": facts(WELL, signing="observer", epoch=3),
    "card-replaced": facts(WELL, card_replaced=True),
    "certificate-ends": facts(WELL, certificate_days=8),
    "not-let-in": facts(WELL, peers=[PeerFacts(name, False, "hangs up", turns_away=True) for name in MEMBERS[1:]]),
    "next-key": facts(WELL, key_problem="key file keys/consensus-4.key: cannot be written: No space left on device"),
    "starting": facts(WELL, signing="starting", start_answers=(1, 2), start_missing=(2, 3)),
    "muted": facts(WELL, signing="muted", muted_until_view=60),
    "too-few-peers": facts(WELL, peers=peers(delta="UNAVAILABLE: connection refused", gamma="no answer")),
    "silent": facts(STALLED, silent=(2, 3), peers=peers(gamma="no answer")),
    "twin-claimed": facts(WELL, peers=(PeerFacts("beta", False, "", speaks_of_a_twin=True), *peers()[1:])),
    "peer-twin": facts(WELL, peers=(*peers()[:2], PeerFacts("gamma", True, "", twins=("10.0.0.4", "10.0.0.9")))),
    "others-muted": facts(WELL, muted_peers=((3, 58),)),
    "misbehaving": facts(WELL, peers=(*peers()[:2], PeerFacts("gamma", True, "", 3, "batch with a bad signature", 27))),
    "clock": facts(WELL, clocks=((1, 5_300),)),
    "behind": facts(STALLED, catching_up=True, executed_height=30),
    "far-behind": facts(
        STALLED,
        catching_up=True,
        snapshot={"height": 9_000, "leaves": 400, "leaves_wanted": 700, "receipts": 0, "receipts_wanted": 90},
    ),
    "proposal": facts(STALLED, proposed=False),
    "votes": facts(STALLED, notarizers=(0, 1), certified_view=56, finalizers=(0,)),
    "certificate": facts(STALLED, missing_nullifications=(55, 56)),
    "body": facts(STALLED, missing_blocks=(DIGEST,), unjudged=((57, DIGEST, False),), missing_batches=(DIGEST,)),
    "execution": facts(STALLED, unjudged=((57, DIGEST, True),), executed_height=30),
    "acknowledgement": facts(STALLED, own_batches=(OwnBatch(7, (0, 1)), OwnBatch(8, (0,)))),
    "time-outs": facts(STALLED, time_outs=5),
    "disk-low": facts(WELL, free_bytes=434_176),
    "old-keys": facts(WELL, epoch_age_ms=91 * 86_400_000),
    "peers-lost": facts(WELL, members=(*MEMBERS, "k", "l", "m"), quorum=5, silent=(2,), peers=peers(gamma="no answer")),
}


def test_only_validators_count_as_reached_and_an_observer_does_not_count_itself() -> None:
    follower = PeerFacts("omega", False, "no answer")
    apart = facts(WELL, peers=(*peers(), follower))
    assert [reason.kind for reason in reasons(apart)] == ["well"], "who has no seat is not missed"
    seatless = facts(WELL, own="omega", signing="observer", peers=[PeerFacts(n, n != "beta", "gone") for n in MEMBERS])
    assert "too-few-peers" not in {reason.kind for reason in reasons(seatless)}
    fewer = facts(seatless, peers=[PeerFacts(n, n in MEMBERS[:2], "gone") for n in MEMBERS])
    (few,) = [reason for reason in reasons(fewer) if reason.kind == "too-few-peers"]
    assert few.text.startswith("This node reaches 2 of 4 validators, and 3 are needed.")


def told(given: Facts, kind: str) -> Reason:
    (found,) = [reason for reason in reasons(given) if reason.kind == kind]
    return found


@pytest.mark.parametrize("kind", ["vote-log", "no-key"])
def test_a_node_that_cannot_sign_is_not_counted_among_those_that_a_quorum_is_made_of(kind: str) -> None:
    """Its own signer index is silent, too, where it never hears itself."""
    given = facts(CASES[kind], silent=(0, 3))
    silent = told(given, "silent")
    assert silent.text == ("Nothing was heard for a while from gamma; 2 of 4 validators are heard, and 3 are needed.")
    assert silent.next_step.startswith("Ask gamma to look at its node (`lossbook node status` there).")
    assert "2 of 4 validators are heard, this one included" in told(CASES["silent"], "silent").text
    few = told(facts(CASES[kind], peers=peers(gamma="no answer")), "too-few-peers")
    assert few.text.startswith("This node reaches 2 of 4 validators, and 3 are needed. Not reached: gamma (")
    assert few.next_step.startswith("Ask gamma whether its node runs")
    seven = facts(CASES[kind], members=(*MEMBERS, "k", "l", "m"), quorum=5, silent=(0,), peers=peers(gamma="gone"))
    assert "goes on with 5 of 7 validators; no more may fail" in told(seven, "peers-lost").text


def test_a_node_is_not_let_in_only_if_more_turn_it_away_than_may_be_broken_and_nobody_lets_it_in() -> None:
    def turned_away(*names: str, connected: str = "") -> Facts:
        return facts(
            WELL, peers=[PeerFacts(name, name == connected, "", turns_away=name in names) for name in MEMBERS[1:]]
        )

    assert kinds_of(turned_away("beta", "delta")) == ["not-let-in"], "and not that it cannot reach them"
    assert kinds_of(turned_away("beta")) == ["too-few-peers"]
    assert "not-let-in" not in kinds_of(turned_away("beta", "delta", connected="gamma"))
    seatless = facts(turned_away("beta", "delta", "gamma"), own="omega", signing="observer")
    assert kinds_of(seatless) == ["no-seat", "not-let-in"], "a newcomer, before it is voted in"


def test_who_is_suspended_is_told_so_and_how_the_seat_is_given_back() -> None:
    given = told(facts(CASES["no-seat"], suspended=True), "no-seat")
    assert given.text.startswith("omega is suspended: it has no seat in epoch 3.")
    assert "`lossbook governance propose reinstate omega`" in given.next_step


def test_a_second_process_explains_all_else_also_that_this_one_stopped() -> None:
    given = facts(CASES["twin"], stopped="view 7 holds a vote this node did not cast", silent=(1, 2, 3))
    assert kinds_of(given) == ["twin"]
    assert told(given, "twin").text.endswith(
        " This one signs nothing any more: view 7 holds a vote this node did not cast."
    )


def test_one_liar_who_tells_of_a_second_process_gets_nobody_stopped() -> None:
    given = facts(CASES["twin-claimed"], silent=(2, 3))
    assert kinds_of(given) == ["silent", "twin-claimed"], "and hides nothing else"
    member = PeerFacts("omega", False, "", speaks_of_a_twin=True)  # of no seat: however many, they count for nothing
    assert "twin" not in kinds_of(facts(given, peers=(*given.peers, member, member)))


def test_a_certificate_that_has_ended_is_told_as_ended() -> None:
    assert "ends within 1 day:" in told(facts(WELL, certificate_days=0), "certificate-ends").text
    assert "has ended" in told(facts(WELL, certificate_days=-1), "certificate-ends").text
    assert "certificate-ends" not in kinds_of(facts(WELL, certificate_days=14))
    assert "not-let-in" not in kinds_of(facts(CASES["not-let-in"], certificate_days=-1)), "that is why"


def test_one_and_many_are_told_in_the_words_for_one_and_for_many() -> None:
    assert told(facts(STALLED, missing_nullifications=(55,)), "certificate").text.startswith(
        "The nullification of view 55 is missing here: without it this node"
    )
    assert told(facts(STALLED, own_batches=(OwnBatch(7, (0,)),)), "acknowledgement").text.startswith(
        "1 own batch waits to be held by 3 validators"
    )
    assert told(facts(CASES["peers-lost"], silent=()), "peers-lost").next_step.startswith("Have that node looked at")
    assert "nobody" not in told(facts(CASES["starting"], start_missing=()), "starting").text


GOLDEN = Path(__file__).with_name("reasons.txt")


def page() -> str:
    """Every reason as it is told, in the order of the cases."""
    told = []
    for kind, given in CASES.items():
        (reason,) = [reason for reason in reasons(given) if reason.kind == kind]
        told.append(f"[{kind}]\n{reason.text}\nNext: {reason.next_step}\n")
    return "\n".join(told)


def test_every_reason_says_what_is_the_case_and_what_to_do_word_for_word() -> None:
    """After a change on purpose: ``python -m tests.unit.node.test_reasons``, and read what it wrote."""
    assert page() == GOLDEN.read_text(encoding="utf-8")


def kinds_of(given: Facts) -> list[str]:
    return [reason.kind for reason in reasons(given)]


def test_every_reason_has_a_case_here_and_a_row_for_the_operator() -> None:
    modules = ("facts", *(path.stem for path in Path(node.reasons.__file__).parent.glob("reasons*.py")))
    source = "".join(Path(node.reasons.__file__).with_stem(name).read_text(encoding="utf-8") for name in modules)
    known = set(re.findall(r'Reason\(\s*"([a-z-]+)"', source)) | set(
        re.findall(r'^[A-Z_]+: Final = "([a-z-]+)"', source, re.MULTILINE)
    )
    assert known == set(CASES)
    operations = read_page("operations.md")
    table = operations.partition("### Why there is no progress\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == known


@pytest.mark.parametrize("kind", set(CASES) - {"well", "idle"})
def test_a_reason_is_not_given_where_all_is_well(kind: str) -> None:
    assert kind not in kinds_of(WELL)
    assert kind not in kinds_of(facts(STALLED, idle=True, stalled_ms=0))


@pytest.mark.parametrize("kind", ["proposal", "votes", "certificate", "body", "execution", "acknowledgement"])
def test_what_is_missing_for_milliseconds_in_every_view_is_told_only_after_patience(kind: str) -> None:
    given = CASES[kind]
    assert kind in kinds_of(given)
    assert kind not in kinds_of(facts(given, stalled_ms=PATIENCE_DELAYS * 500 - 1))


@pytest.mark.parametrize("kind", ["disk-full", "store-failed", "diverged", "card-replaced"])
def test_a_node_that_takes_no_part_any_more_tells_only_that(kind: str) -> None:
    given = CASES[kind]
    assert kinds_of(facts(given, silent=(1, 2), peers=peers(beta="x", gamma="y"), clocks=((1, 9_000),))) == [kind]


def test_what_to_look_at_first_comes_first() -> None:
    given = facts(
        STALLED,
        peers=peers(delta="no answer", gamma="no answer"),
        silent=(2, 3),
        given_up=True,
        nullifiers=(0, 1),
        time_outs=3,
        own_batches=(OwnBatch(1, (0, 1)),),
    )
    assert kinds_of(given) == ["too-few-peers", "votes", "acknowledgement", "time-outs"], "who is not reached is silent"
    hung = facts(given, peers=peers(delta="no answer"))
    assert kinds_of(hung) == ["silent", "votes", "acknowledgement", "time-outs"]
    assert reasons(given)[1].text.startswith("View 57 was given up and waits for 2 of 3 nullify votes (alpha and beta)")


def test_one_muted_node_is_no_deadlock_and_two_of_four_are() -> None:
    assert "too-many-muted" not in kinds_of(facts(WELL, muted_peers=((1, 99),)))
    assert "too-many-muted" in kinds_of(facts(WELL, muted_peers=((1, 99), (2, 98))))
    assert "others-muted" not in kinds_of(facts(WELL, muted_peers=((1, 99), (2, 98))))


def test_where_most_others_are_apart_the_own_clock_is_suspected() -> None:
    (found,) = reasons(facts(WELL, clocks=((1, 5_000), (2, 5_100))))
    assert found.next_step.startswith("Most others differ, so it is probably this machine's clock")


def test_a_network_that_stands_still_is_not_said_to_go_on() -> None:
    """One is down, and another one follows without voting: its vote log is damaged."""
    given = facts(STALLED, peers=peers(gamma="no answer"), notarizers=(0, 1))
    assert kinds_of(given) == ["votes", "peers-lost"]
    lost = told(given, "peers-lost").text
    assert lost.startswith("Not heard of: gamma (no answer). The other 3 of 4 validators would do, but nothing became")
    assert "goes on" in told(facts(given, stalled_ms=0), "peers-lost").text


def test_a_few_silent_nodes_are_not_told_of_while_the_network_goes_on() -> None:
    assert kinds_of(facts(WELL, silent=(3,))) == ["peers-lost"]
    assert kinds_of(facts(STALLED, silent=(2, 3), notarizers=(0, 1)))[0] == "silent"
    assert "peers-lost" not in kinds_of(facts(STALLED, silent=(2, 3)))
    assert "silent" in kinds_of(facts(WELL, silent=(2, 3)))


if __name__ == "__main__":
    GOLDEN.write_text(page(), encoding="utf-8")

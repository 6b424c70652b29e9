"""Why there is no progress, in the words of ``node status``: what a node knows becomes an ordered list of reasons.

Pure. Each reason says what is the case, with names, and the next step of whoever is on duty. The first one is what to
look at first: a later one is often only its consequence. What concerns one view (a proposal, votes, a certificate, a
body, an acknowledgement that is missing) is listed only once nothing became final for ``PATIENCE_DELAYS`` times D while
there was something to do: each of these is missing for some milliseconds in every view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Final

import msgspec

from consensus.status import Status

KEYS_DAYS_MAX: Final = 90
"""Days of block time after which consensus keys are to be renewed (consensus.md §9); the network goes on."""

CERTIFICATE_DAYS_MIN: Final = 14
"""A certificate that ends sooner is worth a word; a start renews one that has less than 30 days left."""

PATIENCE_DELAYS: Final = 4
"""Times D: a view with a live leader takes at most three."""

# Kinds that /readyz asks for by name.
DISK_FULL: Final = "disk-full"
STORE_FAILED: Final = "store-failed"
DIVERGED: Final = "diverged"
TOO_MANY_MUTED: Final = "too-many-muted"
STARTING: Final = "starting"
MUTED: Final = "muted"
TOO_FEW_PEERS: Final = "too-few-peers"
CARD_REPLACED: Final = "card-replaced"
CERTIFICATE_ENDS: Final = "certificate-ends"
TWIN: Final = "twin"
NOT_LET_IN: Final = "not-let-in"


class Reason(msgspec.Struct, frozen=True):
    """One reason."""

    kind: str
    """For programs; docs/operations.md has a row for each."""
    text: str
    """What is the case."""
    next_step: str
    """What to do about it."""


class PeerFacts(msgspec.Struct, frozen=True):
    """Another validator as this node sees it."""

    organisation: str
    connected: bool
    """The stream dialled to it is up."""
    problem: str
    """Why not, in the network's words."""
    offences: int = 0
    """Messages no honest node sends, since the start."""
    last_offence: str = ""
    ignored_s: int = 0
    """It is not listened to for so many seconds more."""
    turns_away: bool = False
    """It answers, and does not let this node in."""
    speaks_of_a_twin: bool = False
    """It ends streams of this node because another process with this node's identity opens newer ones."""
    twins: Sequence[str] = ()
    """Where two processes call from that run with its identity; empty where no two do."""


class StoreFailure(msgspec.Struct, frozen=True):
    """A store whose write or sync failed while the daemon ran."""

    text: str
    disk_full: bool


class OwnBatch(msgspec.Struct, frozen=True):
    """An own batch that a quorum has not acknowledged."""

    sequence: int
    holders: Sequence[int]
    """Signer indexes of those that have."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon knows of itself and its peers."""

    own: str
    members: Sequence[str]
    """Organisation ids by signer index."""
    consensus: Status
    finalized_height: int
    executed_height: int
    catching_up: bool
    snapshot: Mapping[str, int] | None
    """How much of a snapshot has come in; None while none is fetched."""
    stalled_ms: int
    """Since when nothing became final although there was something to do."""
    delay_ms: int
    """D."""
    heartbeat_ms: int
    clock_delta_ms: int
    peers: Sequence[PeerFacts]
    failure: StoreFailure | None = None
    free_bytes: int | None = None
    """On the file system of the home; None if it cannot be told."""
    observing: str = ""
    """Why this node has no vote log, if it has none."""
    key_problem: str = ""
    """Why the consensus key of the next epoch could not be made, or those of past ones not be destroyed."""
    card_replaced: bool = False
    """A vote has put another ledger key on the own card since the start."""
    certificate_days: int = CERTIFICATE_DAYS_MIN
    """Whole days until the own TLS certificate ends; below zero: it has ended."""
    epoch_age_ms: int = 0
    """Block time since the epoch began."""
    divergence: str = ""
    missing_batches: Sequence[bytes] = ()
    """Digests of batches that a block waits for."""
    own_batches: Sequence[OwnBatch] = ()

    def name(self, index: int) -> str:
        """Organisation of a signer index."""
        return self.members[index] if 0 <= index < len(self.members) else f"validator {index}"

    @property
    def validators(self) -> Sequence[PeerFacts]:
        """The peers that have a seat in this epoch; others (removed, or about to join) only follow."""
        return [peer for peer in self.peers if peer.organisation in self.members]

    @property
    def seated(self) -> bool:
        """Whether this node's organisation has a seat in this epoch."""
        return self.own in self.members

    @property
    def votes(self) -> bool:
        """Whether this node is one of those that a quorum is made of: with a seat, and a key and a log to sign with."""
        return self.seated and self.consensus.signing != "observer"

    @property
    def others_silent(self) -> Sequence[str]:
        """Organisations of the other validators that were not heard of for a while."""
        return [name for index in self.consensus.silent if (name := self.name(index)) != self.own]


def reasons(facts: Facts) -> list[Reason]:
    """What stands in the way, what to look at first first. Never empty: with nothing in the way it says so."""
    found: list[Reason] = []
    for rule, ends in _RULES:
        reason = rule(facts)
        if reason is not None:
            found.append(reason)
            if ends:
                return found  # the node takes no part any more: what it last saw of the network is old
    return found or [_well(facts)]


# -- this node -------------------------------------------------------------------------------


def _store_failed(facts: Facts) -> Reason | None:
    failure = facts.failure
    if failure is None:
        return None
    if not failure.disk_full:
        return Reason(
            STORE_FAILED,
            f"This node stopped voting and answers queries only: {failure.text}",
            "Look at the disk (kernel log, SMART). Then restart the node; `lossbook doctor` checks the home before.",
        )
    free = "" if facts.free_bytes is None else f" {_size(facts.free_bytes)} are free now."
    return Reason(
        DISK_FULL,
        f"The disk is full. This node stopped voting and answers queries only: {failure.text}{free}",
        "Free space on this file system, then restart the node. Delete nothing in the home.",
    )


def _observing(facts: Facts) -> Reason | None:
    if not facts.observing:
        return None
    return Reason("vote-log", f"This node only observes: {facts.observing}", "Do what it says; then it votes again.")


def _no_seat(facts: Facts) -> Reason | None:
    if facts.seated or facts.catching_up:
        return None
    return Reason(
        "no-seat",
        f"{facts.own} has no seat in epoch {facts.consensus.epoch}: this node follows and answers queries, and does "
        "not vote.",
        "Nothing, if it was removed, is suspended or has still to join. A seat is given by vote of the members.",
    )


def _no_key(facts: Facts) -> Reason | None:
    if not facts.seated or facts.observing or facts.catching_up or facts.consensus.signing != "observer":
        return None
    epoch = facts.consensus.epoch
    return Reason(
        "no-key",
        f"The consensus key registered for {facts.own} in epoch {epoch} is not in this home: this node only observes, "
        "and its seat counts among the f that may fail.",
        f"A file keys/consensus-{epoch}.key that is there holds another one. If the registered one lies elsewhere "
        "(that on the card as keys/consensus.key), put it back and restart. If it is lost, or none was registered: "
        "an admin registers the key that this node has made for the next epoch, and the members vote for a renewal "
        "of the keys (docs/operations.md, Keys of epochs).",
    )


def _card_replaced(facts: Facts) -> Reason | None:
    if not facts.card_replaced:
        return None
    return Reason(
        CARD_REPLACED,
        f"A vote has put another ledger key on the card of {facts.own}: with its certificate of the key before, this "
        "node is not let in by the others any more.",
        "Put the new ledger key into the home as keys/ledger.key, the new card as card.json, and restart the node: it "
        "issues itself a certificate.",
    )


def _certificate_ends(facts: Facts) -> Reason | None:
    days = facts.certificate_days
    if days >= CERTIFICATE_DAYS_MIN:
        return None
    return Reason(
        CERTIFICATE_ENDS,
        f"The TLS certificate of this node ends within {_count(days + 1, 'day')}: nobody lets it in after that."
        if days >= 0
        else "The TLS certificate of this node has ended: nobody lets it in any more.",
        "Restart the node with the ledger key in its home (keys/ledger.key): it issues itself a new one.",
    )


def _old_keys(facts: Facts) -> Reason | None:
    days = facts.epoch_age_ms // 86_400_000
    if days < KEYS_DAYS_MAX:
        return None
    return Reason(
        "old-keys",
        f"The consensus keys of epoch {facts.consensus.epoch} are {days} days old; they are to be renewed every "
        f"{KEYS_DAYS_MAX} days. The network goes on.",
        "Propose a renewal: `lossbook governance propose rotate`.",
    )


def _key_problem(facts: Facts) -> Reason | None:
    if not facts.key_problem:
        return None
    return Reason(
        "next-key",
        f"The consensus keys of this home cannot be kept: {facts.key_problem}",
        "Put it right (free space, rights of the folder keys/): it is tried again by itself. A node that has no key "
        "registered when the members change the set keeps its seat in the next epoch and cannot sign there.",
    )


def _diverged(facts: Facts) -> Reason | None:
    text = facts.divergence or facts.consensus.stopped
    if not text:
        return None
    return Reason(
        DIVERGED,
        f"This node signs nothing any more: {text}. Either it is broken, or more than f validators are.",
        "Keep the home as it is. Compare state roots at one height with every member and a replica "
        "(docs/operations.md, Two daemons agree). If only this node differs: check memory and version, then resync.",
    )


def _twin(facts: Facts) -> Reason | None:
    told_by = [peer.organisation for peer in facts.peers if peer.speaks_of_a_twin]
    if not told_by:
        return None
    return Reason(
        TWIN,
        f"Another process runs as {facts.own}: {_list(told_by)} {_one(told_by, 'ends', 'end')} this node's streams "
        "again and again, because it opens newer ones with the same certificate.",
        "Stop this node now, and look for the other one: a copied home, an old machine that came back. Destroy or lock "
        "away one of the two. If both sign, they contradict each other, and everybody can prove it "
        "(docs/operations.md, Replace a machine).",
    )


def _starting(facts: Facts) -> Reason | None:
    status = facts.consensus
    if status.signing != "starting":
        return None
    counted, needed = status.start_answers
    missing = f" No answer from {_names(facts, status.start_missing)}." if status.start_missing else ""
    return Reason(
        STARTING,
        f"This node has started and signs nothing until {needed} others have told it what it may have signed before; "
        f"{counted} did.{missing}",
        "Nothing, if it lasts seconds. Else see that those nodes run and that this one reaches them.",
    )


def _muted(facts: Facts) -> Reason | None:
    status = facts.consensus
    if status.signing != "muted":
        return None
    return Reason(
        MUTED,
        f"This node may have forgotten votes (restored or resynced) and signs nothing in views up to "
        f"{status.muted_until_view}; the network is in view {status.view}.",
        "Nothing: it votes again once the others have passed that view.",
    )


# -- the network -----------------------------------------------------------------------------


def _too_many_muted(facts: Facts) -> Reason | None:
    """Fewer than Q that may sign: no view can pass, so the bounds of the muted ones are never reached."""
    status = facts.consensus
    muted = [facts.name(index) for index, _ in status.muted_peers]
    if status.signing == "muted":
        muted.append(facts.own)
    able = len(facts.members) - len(muted)
    if not muted or able >= status.quorum:
        return None
    return Reason(
        TOO_MANY_MUTED,
        f"{_list(sorted(muted))} may have forgotten votes and sign nothing; {able} of {len(facts.members)} validators "
        f"may sign and {status.quorum} are needed. No view passes any more, so this does not end by itself.",
        "Call all members. The way out is to rebuild the network from one survivor: docs/operations.md, Rebuild. "
        "Until then change no home and restore nothing more.",
    )


def _others_muted(facts: Facts) -> Reason | None:
    status = facts.consensus
    muted = status.muted_peers
    if not muted or _too_many_muted(facts) is not None:
        return None
    told = _list([f"{facts.name(index)} up to view {until}" for index, until in muted])
    return Reason(
        "others-muted",
        f"Restored or resynced, and signing nothing yet: {told}. The network is in view {status.view}.",
        "Nothing: they vote again past that view. Until then restore or resync no other node.",
    )


def _not_let_in(facts: Facts) -> Reason | None:
    """More turn this node away than may be broken, and nobody lets it in: it is about this node."""
    away = [peer.organisation for peer in facts.validators if peer.turns_away]
    if len(away) <= len(facts.members) - facts.consensus.quorum or any(peer.connected for peer in facts.validators):
        return None
    return Reason(
        NOT_LET_IN,
        f"{_list(away)} answer, and hang up as soon as this node shows its certificate. So {facts.own} is no member of "
        "the network as they know it yet, or a vote has replaced its ledger key while this node was away.",
        "While the members still vote on its admission: nothing, it is tried again and again. If its card was "
        "replaced: put the new ledger key into the home as keys/ledger.key, the new card as card.json, and restart the "
        "node. What they know says `lossbook record show organisation/ID` with the profile of another member.",
    )


def _too_few_peers(facts: Facts) -> Reason | None:
    lost = [peer for peer in facts.validators if not peer.connected]
    reached = facts.votes + len(facts.validators) - len(lost)
    if not lost or reached >= facts.consensus.quorum:
        return None
    told = "; ".join(f"{peer.organisation} ({peer.problem})" for peer in lost)
    return Reason(
        TOO_FEW_PEERS,
        f"This node reaches {reached} of {len(facts.members)} validators{_itself(facts, 'itself')}, and "
        f"{facts.consensus.quorum} are needed. Not reached: {told}.",
        f"Ask {_list([peer.organisation for peer in lost])} whether {_one(lost, 'its node runs', 'their nodes run')} "
        "(`lossbook node status` there), and check the network between you.",
    )


def _peers_lost(facts: Facts) -> Reason | None:
    """The network goes on, with less in reserve."""
    lost = {peer.organisation: peer.problem for peer in facts.validators if not peer.connected}
    hung = {name: "connected, and silent" for name in facts.others_silent if name not in lost}
    left = len(facts.members) - len(lost) - len(hung) - (facts.seated and not facts.votes)
    if not lost | hung or left < facts.consensus.quorum:
        return None
    told = "; ".join(f"{name} ({problem})" for name, problem in (lost | hung).items())
    return Reason(
        "peers-lost",
        f"Not heard of: {told}. The network goes on with {left} of {len(facts.members)} validators; "
        f"{left - facts.consensus.quorum or 'no'} more may fail.",
        f"Have {_one(lost | hung, 'that node', 'those nodes')} looked at before another one fails.",
    )


def _silent(facts: Facts) -> Reason | None:
    silent, needed = facts.others_silent, facts.consensus.quorum
    heard = len(facts.members) - len(silent) - (facts.seated and not facts.votes)
    if not silent or heard >= needed:
        return None
    connected = {peer.organisation for peer in facts.peers if peer.connected}
    hung = [name for name in silent if name in connected]
    hint = f" The connection to {_list(hung)} is up: the process there may hang." if hung else ""
    return Reason(
        "silent",
        f"Nothing was heard for a while from {_list(silent)}; {heard} of {len(facts.members)} validators are heard"
        f"{_itself(facts, 'this one')}, and {needed} are needed.",
        f"Ask {_list(silent)} to look at {_one(silent, 'its node', 'their nodes')} "
        f"(`lossbook node status` there).{hint}",
    )


def _peer_twin(facts: Facts) -> Reason | None:
    doubled = [peer for peer in facts.peers if peer.twins]
    if not doubled:
        return None
    told = "; ".join(f"{peer.organisation} (from {_list(sorted(set(peer.twins)))})" for peer in doubled)
    return Reason(
        "peer-twin",
        f"Two processes run at a time with one identity, and push out each other's streams: {told}.",
        "Call that organisation: two copies of its home run, and one has to be stopped before they sign different "
        "things. `lossbook node status` there says `Another process runs`.",
    )


def _misbehaving(facts: Facts) -> Reason | None:
    ignored = [peer for peer in facts.peers if peer.ignored_s]
    if not ignored:
        return None
    told = "; ".join(
        f"{peer.organisation} for {peer.ignored_s} s more, after {_count(peer.offences, 'offence')}, the last: "
        f"{peer.last_offence}"
        for peer in ignored
    )
    return Reason(
        "misbehaving",
        f"Not listened to, because it sent what no honest node sends: {told}.",
        "Call that organisation: its node is broken, of another version, or not its own any more.",
    )


def _behind(facts: Facts) -> Reason | None:
    if not facts.catching_up or not _stalls(facts):
        return None
    if facts.snapshot is not None:
        return Reason(
            "far-behind",
            "This node is far behind and fetches the state of height {height}: {leaves} of {leaves_wanted} leaves and "
            "{receipts} of {receipts_wanted} receipts have come in.".format_map(facts.snapshot),
            "Nothing, if the numbers grow. If not: it cannot fetch them, see the peers below and the log.",
        )
    return Reason(
        "behind",
        f"This node is behind: more is final than the {facts.finalized_height} blocks it holds, of which it has "
        f"executed {facts.executed_height}.",
        "Nothing, if the numbers grow. If not: it cannot fetch blocks, see the peers below and the log.",
    )


def _clock(facts: Facts) -> Reason | None:
    clocks = facts.consensus.clocks
    if not clocks:
        return None
    told = _list([f"{facts.name(index)} {_seconds(abs(ms))} {'ahead' if ms > 0 else 'behind'}" for index, ms in clocks])
    own = 2 * len(clocks) > len(facts.members) - 1 > 1
    return Reason(
        "clock",
        f"Blocks dated apart from this machine's clock by more than {_seconds(facts.clock_delta_ms)}, the most that is "
        f"allowed: {told}.",
        "Most others differ, so it is probably this machine's clock: check its time service."
        if own
        else "Check the time service there and here: the clocks of validators have to agree.",
    )


# -- one view --------------------------------------------------------------------------------


def _proposal(facts: Facts) -> Reason | None:
    status = facts.consensus
    if not _stalls(facts) or status.proposed or status.given_up:
        return None
    return Reason(
        "proposal",
        f"View {status.view} waits for the proposal of its leader, {facts.name(status.leader)}.",
        "Nothing: without one the view is given up in time and the next leader proposes.",
    )


def _votes(facts: Facts) -> Reason | None:
    """The votes that the current view waits for, and those that would make the block before it final."""
    status = facts.consensus
    if not _stalls(facts):
        return None
    parts = []
    if status.given_up:
        parts.append(f"view {status.view} was given up and waits for {_tally(facts, 'nullify', status.nullifiers)}")
    elif status.proposed:
        parts.append(f"the block of view {status.view} waits for {_tally(facts, 'notarize', status.notarizers)}")
    if status.finalizers:
        waits = _tally(facts, "finalize", status.finalizers)
        parts.append(f"the block of view {status.certified_view} is certified and waits for {waits}")
    if not parts:
        return None
    text = "; ".join(parts)
    return Reason(
        "votes",
        text[0].upper() + text[1:] + ".",
        "Ask those that are named last: `lossbook node status` there says why they do not vote.",
    )


def _certificates(facts: Facts) -> Reason | None:
    views = facts.consensus.missing_nullifications
    # The current view's is what _votes tells of.
    if not _stalls(facts) or not views:
        return None
    told = _list([str(view) for view in views])
    it = _one(views, "it", "them")
    return Reason(
        "certificate",
        f"{_one(views, f'The nullification of view {told} is', f'The nullifications of views {told} are')} missing "
        f"here: without {it} this node can neither build on what came before nor judge who does.",
        f"Nothing, if others are connected: they are asked for {it} again and again.",
    )


def _body(facts: Facts) -> Reason | None:
    status = facts.consensus
    if not _stalls(facts):
        return None
    parts = [f"block {_short(digest)}" for digest in status.missing_blocks]
    parts += [
        f"the block before {_short(digest)} of view {view}" for view, digest, placed in status.unjudged if not placed
    ]
    parts += [f"batch {_short(digest)}" for digest in facts.missing_batches]
    if not parts:
        return None
    return Reason(
        "body",
        f"Not in hand, and needed before this node votes on: {_list(parts)}.",
        "Nothing, if others are connected: those that said they hold it are asked again and again.",
    )


def _execution(facts: Facts) -> Reason | None:
    status = facts.consensus
    waiting = [view for view, _, placed in status.unjudged if placed]
    if not _stalls(facts) or not waiting or facts.missing_batches or facts.executed_height >= facts.finalized_height:
        return None
    return Reason(
        "execution",
        f"The block of view {waiting[0]} commits to a state this node has not executed yet: executed "
        f"{facts.executed_height}, final {facts.finalized_height}.",
        "Nothing, if the executed height grows. If it grows too slowly: the processor is the limit.",
    )


def _acks(facts: Facts) -> Reason | None:
    if not _stalls(facts) or not facts.own_batches:
        return None
    first = facts.own_batches[0]
    wait = _count(len(facts.own_batches), "own batch waits", "own batches wait")
    return Reason(
        "acknowledgement",
        f"{wait} to be held by {facts.consensus.quorum} validators; the oldest, {first.sequence}, waits for "
        f"{_tally(facts, 'held', first.holders)}.",
        "Ask those that are named last: a full disk or a slow line keeps them from storing it.",
    )


def _time_outs(facts: Facts) -> Reason | None:
    status = facts.consensus
    if not _stalls(facts) or status.time_outs < 2:
        return None
    return Reason(
        "time-outs",
        f"{status.time_outs} views in a row were given up since the last final block.",
        "Messages take longer than consensus.delay_ms allows, or leaders are down. The time-outs grow up to "
        "consensus.timeout_ms_max and shrink again by themselves.",
    )


def _well(facts: Facts) -> Reason:
    if facts.consensus.idle:
        return Reason(
            "idle",
            f"Nothing to do. The next block comes with the next transaction, or as the heartbeat every "
            f"{_seconds(facts.heartbeat_ms)}.",
            "Nothing.",
        )
    return Reason("well", "Nothing stands in the way.", "Nothing.")


_RULES: Final[Sequence[tuple[Callable[[Facts], Reason | None], bool]]] = (
    (_store_failed, True),
    (_twin, False),
    (_diverged, True),
    (_too_many_muted, False),
    (_observing, False),
    (_no_seat, False),
    (_no_key, False),
    (_key_problem, False),
    (_certificate_ends, False),
    (_card_replaced, True),
    (_not_let_in, True),
    (_starting, False),
    (_muted, False),
    (_too_few_peers, False),
    (_silent, False),
    (_peer_twin, False),
    (_others_muted, False),
    (_misbehaving, False),
    (_clock, False),
    (_behind, False),
    (_proposal, False),
    (_votes, False),
    (_certificates, False),
    (_body, False),
    (_execution, False),
    (_acks, False),
    (_time_outs, False),
    (_peers_lost, False),
    (_old_keys, False),
)
"""In the order in which they are told; True: nothing after it is worth telling."""


# -- words -----------------------------------------------------------------------------------


def _stalls(facts: Facts) -> bool:
    return facts.stalled_ms >= PATIENCE_DELAYS * facts.delay_ms


def _tally(facts: Facts, what: str, signers: Sequence[int]) -> str:
    """``2 of 3 notarize votes (alpha, beta); not yet from gamma, delta``."""
    others = [index for index in range(len(facts.members)) if index not in signers]
    have = f" ({_names(facts, signers)})" if signers else ""
    noun = "acknowledgements" if what == "held" else f"{what} votes"
    return f"{len(signers)} of {facts.consensus.quorum} {noun}{have}; not yet from {_names(facts, others)}"


def _names(facts: Facts, indexes: Sequence[int]) -> str:
    return _list([facts.name(index) for index in indexes])


def _list(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else list(words) or ["nobody"])


def _one(of: Sized, one: str, many: str) -> str:
    """The words for one or for many of these."""
    return one if len(of) == 1 else many


def _itself(facts: Facts, words: str) -> str:
    """``, itself included`` where this node is one that counts."""
    return f", {words} included" if facts.votes else ""


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.1f} s"


def _short(digest: bytes) -> str:
    return digest.hex()[:16]


def _size(size: int) -> str:
    return f"{size / 1_000_000_000:.1f} GB" if size >= 1_000_000_000 else f"{size / 1_000_000:.1f} MB"

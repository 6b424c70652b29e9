"""Epochs one after another: beginning the present one, and telling how an earlier one ended."""

from __future__ import annotations

from consensus.config import Config
from consensus.core import Core
from consensus.events import Now
from consensus.justification import HeaderRules
from consensus.ports import Headers
from consensus.types import Certificate, Header
from ledger import wire
from ledger.block_port import BlockStore
from ledger.header_chain import EpochStart
from ledger.known_epochs import KnownEpochs
from node.catchup import ChainRules
from node.epoch import Epoch, EpochSource, Keyring, Signer, Verify, open_epoch
from node.epoch_log import EpochLog
from node.instance import Instance


class Epochs:
    """See the module text.

    Args:
        config: local settings of every core.
        genesis: header of the genesis block.
        organisation: whose node this is.
        voting: whether it has a vote log.
        source: executed state.
        blocks, headers: stored blocks.
        keys: the consensus keys this node has.
        verify: checks signatures.
        log: records of the vote log.
    """

    def __init__(
        self,
        *,
        config: Config,
        genesis: Header,
        organisation: str,
        voting: bool,
        source: EpochSource,
        blocks: BlockStore,
        headers: Headers,
        keys: Keyring,
        verify: Verify,
        log: EpochLog,
    ) -> None:
        self._config = config
        self._genesis = genesis
        self.organisation = organisation
        self._voting = voting
        self._source = source
        self._blocks = blocks
        self._headers = headers
        self._keys = keys
        self._verify = verify
        self.log = log
        self._header_rules: dict[int, HeaderRules] = {}  #: of epochs that have begun: they never change

    @property
    def number(self) -> int:
        """The present epoch, as the executed state has it."""
        return self._source.epoch

    def present(self) -> Epoch:
        """The present epoch.

        Raises:
            CorruptStore: state and blocks do not belong together.
        """
        return open_epoch(
            self._source,
            self._final_header,
            self.organisation,
            self._keys,
            voting=self._voting,
            first=self._genesis.epoch,
        )

    def instance(self, epoch: Epoch, now: Now) -> Instance:
        """The core of an epoch, as the log left it; the first event has to be ``Started``."""
        signer = Signer(epoch.sign, self._verify)
        records = self.log.of(epoch.number) if epoch.own is not None else ()
        core = Core.restore(self._config, epoch.validators, epoch.own, epoch.start, records, self._headers, signer, now)
        return Instance(epoch, core)

    def rules(self, epoch: Epoch) -> ChainRules:
        """What blocks served to a node that lags have to satisfy."""
        return ChainRules.of(epoch, self._config.chain_id, Signer(epoch.sign, self._verify))

    def header_rules(self, epoch: int) -> HeaderRules | None:
        """What headers of an epoch that has begun agree with; None for one that has not."""
        rules = self._header_rules.get(epoch)
        record = self._source.epoch_record(epoch) if rules is None else None
        start = self._final_header(record.first_height - 1) if record is not None else None
        if record is not None and start is not None:
            rules = HeaderRules(
                self._config.protocol_version, self._config.chain_id, record.validator_set(epoch), start
            )
            self._header_rules[epoch] = rules
        return rules

    def known(self) -> KnownEpochs:
        """What this node has seen of the network's epochs itself, from the first one on."""
        starts: dict[int, EpochStart] = {}
        for number in range(self._genesis.epoch, self.number + 1):
            rules = self.header_rules(number)
            if rules is None:
                break  # what an earlier version stored: the rest is shown by hand-overs
            starts[number] = EpochStart(rules.validators, rules.genesis)
        return KnownEpochs(self._config.chain_id, starts, first_epoch=self._genesis.epoch)

    def end_of(self, epoch: int) -> Certificate | None:
        """The Finalization that ended an epoch: of its boundary block, or of a tail after it. None if it goes on."""
        after = self._source.epoch_record(epoch + 1)
        raw = self._blocks.finalization(after.first_height - 1) if after is not None else None
        return wire.read_certificate(raw) if raw is not None else None

    def live_records(self, present: Instance) -> list[bytes]:
        """What a rewritten vote log has to hold of consensus."""
        if present.signs:
            self.log.replace(present.number, present.live_records())
        return [wire.encode_record(record) for record in self.log.live(present.number)]

    def _final_header(self, height: int) -> Header | None:
        if height == self._genesis.height:
            return self._genesis
        digest = self._blocks.digest_at(height)
        return self._headers.header(digest) if digest is not None else None

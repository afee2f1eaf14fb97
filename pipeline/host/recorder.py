"""Records facts: results into the archive first, then the facts into the ledger, then into the log.

Owns: this order, and that nothing is recorded after a failure. An accepted result is archived before it is recorded;
one that is archived and not recorded is collected again.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from inbox_agent.protocol.layout import Outcome
from inbox_agent.system.full_disk import is_disk_full
from pipeline.core.facts import AttemptEnded, Fact, ResultLate, ResultUnexpected
from pipeline.core.farm import Farm
from pipeline.core.observation import CollectedResult, ShareScan
from pipeline.errors import HostError, LedgerError
from pipeline.host.ports import FactLog, FactStore, ResultStore


class Recorder:
    """The ledger, the archive and the log of one host."""

    def __init__(self, ledger: FactStore, archive: ResultStore, event_log: FactLog) -> None:
        self._ledger, self._archive, self._event_log = ledger, archive, event_log
        #: memory may have facts that the ledger lacks, so nothing more may be decided
        self.failed = False

    @contextlib.contextmanager
    def commit(self) -> Iterator[None]:
        """Encloses a change of the farm and its `record`; if either fails, nothing more may build on the farm.

        Raises:
            HostError: an earlier commit failed.
        """
        if self.failed:
            raise HostError("an earlier fact could not be recorded; run again")
        self.failed = True
        yield
        self.failed = False

    def record(
        self, farm: Farm, facts: Sequence[Fact], at: float, results: Mapping[str, tuple[str, CollectedResult]] = {}
    ) -> None:
        """Records facts of the farm's generation; `results` has worker and result by attempt, for facts about them.

        Raises:
            HostError: the disk or the ledger failed.
        """
        try:
            self._archive_results(farm.generation, facts, results)
        except OSError as error:
            what_to_do = "free some space" if is_disk_full(error) else "make it writable, close what has it open,"
            raise HostError(f"a result cannot be archived: {error}; {what_to_do} and run again") from error
        try:
            self._ledger.append(facts, at, farm.generation, farm.run)
        except LedgerError as error:
            raise HostError(str(error)) from error
        self._event_log.write(facts, at, farm.generation)

    def _archive_results(
        self, generation: int, facts: Iterable[Fact], results: Mapping[str, tuple[str, CollectedResult]]
    ) -> None:
        """Archives the accepted results in one call, after those that do not count were set aside."""
        accepted = []
        for fact in facts:
            if not isinstance(fact, AttemptEnded | ResultLate | ResultUnexpected) or fact.attempt not in results:
                continue
            worker, result = results[fact.attempt]
            match fact:
                case AttemptEnded(archived=True):
                    accepted.append((worker, result))
                case AttemptEnded(has_result=True):
                    self._archive.set_aside(generation, worker, result, Outcome.CORRUPT)
                case ResultLate():
                    self._archive.set_aside(generation, worker, result, "late")
                case ResultUnexpected():
                    self._archive.set_aside(generation, worker, result, "unexpected")
        if accepted:
            self._archive.store(generation, accepted)

    def discard_fetched(self, scans: Iterable[ShareScan]) -> None:
        """Removes the fetched artifacts of results that are judged, whatever came of them."""
        for scan in scans:
            for result in scan.results:
                if result.artifacts:
                    self._archive.discard(scan.worker, result.attempt)

    def with_history(self, scan: ShareScan, farm: Farm) -> ShareScan:
        """Adds to a scan what only the whole ledger knows: ids issued in other runs and generations."""
        unknown = [attempt for attempt in scan.starts if attempt not in farm.attempts]
        if not unknown and all(result.attempt in farm.attempts for result in scan.results):
            return scan
        return replace(
            scan,
            unknown_starts=frozenset(attempt for attempt in unknown if not self._ledger.has_issued(attempt)),
            results=tuple(
                replace(
                    result,
                    issued_in_other_run=self._ledger.has_issued(result.attempt),
                    collected_in_other_run=self._ledger.has_collected(result.attempt),
                )
                for result in scan.results
            ),
        )

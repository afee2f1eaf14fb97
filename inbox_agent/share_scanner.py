"""Scans the share for the agent; tells present, confirmed absent and incomplete apart.

Owns: when an absence is confirmed and when an incomplete delivery is given up.
Not here: what follows from either (planner). It removes nothing but files that a previous agent staged and never
published.
See: share_layout.md, laws 3 and 4.
"""

import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from inbox_agent.planner import ShareState, in_order
from inbox_agent.protocol import layout
from inbox_agent.protocol.deployment import recorded_deployment
from inbox_agent.protocol.files import FileInvalid, FileMissing, FileRefused, ShareError, ShareFiles, Unavailable
from inbox_agent.protocol.layout import (
    INBOX,
    OUTBOX,
    STAGING,
    HostRecord,
    Kind,
    LayoutError,
    Outcome,
    StartRecord,
    UnknownLayout,
)
from inbox_agent.protocol.readers import DamagedOwner, read_owner, read_record


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLimits:
    """Intervals of scans, heartbeats and retries, in seconds of the agent's monotonic clock."""

    poll_s: float = 1.0
    beat_s: float = 5.0
    delivery_tries_max: int = 5  #: reads of an incomplete start signal or genome (law 3 of share_layout.md)
    delivery_pause_s: float = 1.0
    gone_after_s: float = 12.0  #: on a foreign disk: Windows serves old listings (law 4 of share_layout.md)
    newcomer_beats: int = 3  #: how long a new agent watches a foreign disk before it acts (law 7 of share_layout.md)
    # Together below half of the time that the host allows until a new agent's first beat (`silence_limit_s`).


DEFAULT_LIMITS = AgentLimits()
log = logging.getLogger(__name__)
STARTS_MAX = 1000  #: more than any host queues
CLEANED_PER_SCAN_MAX = 500  #: so that a flood does not delay the heartbeat
#: on an own disk, how long a scan is played from: scanning costs more than a short game (law 7 of share_layout.md)
KEPT_S = 0.01


class ShareScanner:
    """Scans the share; between scans it keeps only what retries and confirmed absences need."""

    def __init__(
        self, files: ShareFiles, *, clock: Callable[[], float], share_is_local: bool, limits: AgentLimits
    ) -> None:
        self._files, self._clock, self._share_is_local, self._limits = files, clock, share_is_local, limits
        self.owner: HostRecord | None = None
        self.newest_deployment = 0  #: the highest number of a deployment at the last scan; 0: there is none
        self._starts: dict[str, StartRecord] = {}
        self._tries: dict[str, int] = {}
        self._again_at: dict[str, float] = {}
        self._undeliverable: dict[str, tuple[Outcome, str]] = {}
        self._damaged: dict[str, None] = {}
        self._missing_since: dict[str, float] = {}
        self._kept: ShareState | None = None
        self._kept_until = 0.0
        self._staging_cleared = False
        self._unknown_owner = ""  #: the layout of a `host.json` that was logged

    def scan(self, running: str | None, unconfirmed_claims: Collection[str] = ()) -> ShareState:
        """The state of the share now. Raises Unavailable when it cannot be asked."""
        self._kept, self._kept_until = None, self._clock() + (KEPT_S if self._share_is_local else 0.0)
        names = self._files.names(INBOX)
        self.owner = self._read_owner(names)
        self.newest_deployment = max(filter(None, map(recorded_deployment, names)), default=0)
        listed = {known[0] for name in names if (known := layout.attempt_of(name)) and known[1] is Kind.START}
        if len(listed) > STARTS_MAX:
            raise Unavailable(f"{INBOX}/ holds {len(listed)} start signals, a flood")
        mine = {running} if running else set()
        outbox = self._scan_outbox(listed | mine)
        if self.owner is None:
            return ShareState(owner=None, present=(), outbox=outbox, running=running)
        self._clear_staging_once()
        held = outbox.keys() | mine
        present = listed | self._still_present(held - listed)
        for attempt in sorted(listed - {a for a, kinds in outbox.items() if Kind.RESULT in kinds}):
            self._read_start(attempt)
        self._retain(present)
        now = self._clock()
        return ShareState(
            owner=self.owner,
            present=present,
            starts=in_order({a: start for a, start in self._starts.items() if self._again_at.get(a, now) <= now}),
            damaged=self._damaged,
            undeliverable=self._undeliverable,
            outbox=outbox,
            running=running,
            unconfirmed_claims=[attempt for attempt in unconfirmed_claims if attempt in present],
        )

    def _scan_outbox(self, asked_for: set[str]) -> dict[str, set[Kind]]:
        """The contents of `outbox/` by attempt: all that are asked for, and a part of those to be removed."""
        found: dict[str, set[Kind]] = {}
        for name in self._files.names(OUTBOX):
            if (known := layout.attempt_of(name)) is not None:
                found.setdefault(known[0], set()).add(known[1])
        left_over = sorted(found.keys() - asked_for)
        for attempt in left_over[CLEANED_PER_SCAN_MAX:]:
            del found[attempt]
        return found

    def keep(self, state: ShareState) -> None:
        """Keeps what a scan has left to play."""
        self._kept = state

    def take_kept(self) -> ShareState | None:
        """Returns what was kept, once; None if there is nothing, or if that scan is too old."""
        state, self._kept = self._kept, None
        return state if self._clock() < self._kept_until else None

    def start_of(self, attempt: str) -> StartRecord | None:
        """The start signal of an attempt; None if it could not be read."""
        return self._starts.get(attempt)

    def note_incomplete(self, attempt: str, reason: str) -> None:
        """Law 3 of share_layout.md: an incomplete record or payload is read again, up to a limit, then given up."""
        self._tries[attempt] = tries = self._tries.get(attempt, 0) + 1
        self._again_at[attempt] = self._clock() + self._limits.delivery_pause_s
        if tries >= self._limits.delivery_tries_max:
            self._undeliverable[attempt] = (Outcome.UNDELIVERED, layout.clean(reason, layout.REASON_CHARS_MAX))

    def _read_owner(self, names: list[str]) -> HostRecord | None:
        owner = read_owner(self._files, names)
        if isinstance(owner, DamagedOwner):
            if isinstance(owner.error, UnknownLayout):  # only write the heartbeat
                if self._unknown_owner != owner.error.reason:
                    self._unknown_owner = owner.error.reason
                    log.warning("nothing is played: %s; install the same version on host and agent", owner.error)
                return None
            raise Unavailable(f"{layout.host_name(owner.epoch)} cannot be read: {owner.error}") from owner.error
        return owner

    def _still_present(self, missing: set[str]) -> set[str]:
        for attempt in self._missing_since.keys() - missing:
            del self._missing_since[attempt]
        return {attempt for attempt in sorted(missing) if not self._is_gone(attempt)}

    def _is_gone(self, attempt: str) -> bool:
        """Law 4 of share_layout.md: gone if neither listing nor open finds it; on a foreign disk, also later."""
        try:
            self._files.read(f"{INBOX}/{Kind.START.of(attempt)}", layout.RECORD_BYTES_MAX)
        except FileMissing:
            since = self._missing_since.setdefault(attempt, self._clock())
            return self._share_is_local or self._clock() - since >= self._limits.gone_after_s
        except (FileInvalid, FileRefused):
            pass
        self._missing_since.pop(attempt, None)
        return False

    def _read_start(self, attempt: str) -> None:
        if attempt in self._starts or attempt in self._undeliverable:
            return
        if self._again_at.get(attempt, 0.0) > self._clock():
            return
        name = Kind.START.of(attempt)
        try:
            start = read_record(self._files, StartRecord, INBOX, name)
            if start.attempt != attempt:
                raise LayoutError(name, f"speaks of attempt {start.attempt}")
        except UnknownLayout as error:
            self._undeliverable[attempt] = (Outcome.REJECTED, str(error))
        except (FileInvalid, LayoutError) as error:
            self._damaged[attempt] = None
            self.note_incomplete(attempt, str(error))
        except (FileMissing, FileRefused) as error:
            self.note_incomplete(attempt, str(error))
        else:
            self._starts[attempt] = start
            self._tries.pop(attempt, None)
            self._damaged.pop(attempt, None)

    def _retain(self, present: set[str]) -> None:
        memories: list[dict[str, Any]] = [self._starts, self._tries, self._again_at, self._undeliverable, self._damaged]
        for memory in memories:
            for attempt in memory.keys() - present:
                del memory[attempt]

    def _clear_staging_once(self) -> None:
        """Removes files that a previous agent staged and never published; errors are ignored."""
        if not self._staging_cleared:
            self._staging_cleared = True
            staging = f"{OUTBOX}/{STAGING}"
            with contextlib.suppress(ShareError):
                staged = filter(layout.attempt_of, self._files.names(staging))
                self._files.remove([f"{staging}/{name}" for name in staged])

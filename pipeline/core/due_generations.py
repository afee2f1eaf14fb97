"""Which generation of a watched project is played next, by looks at the folders and by what the ledger has. Pure.

Owns: when a generation is due, how long one that cannot be played waits, when a folder must be listed again. The lowest
number goes first, also if it is lower than one that was played.
Not here: looking and playing (`host.watch`, `host.watched_folders`), when a file is complete (`folder_looks`).
Times are in seconds, by any clock that does not go back.
"""

import enum
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from pipeline.core.facts import Fact, GenomeAdded, GenomeReopened, RunFinished, RunOpened, TrialReopened
from pipeline.core.folder_looks import STEADY_S, FolderLooks, Stamp

#: A generation that cannot be played is tried again after the first pause, which doubles up to the longest one.
RETRY_MIN_S, RETRY_MAX_S = 10.0, 600.0
#: So long a folder is listed at every look after its own time of change was seen to change: on FAT it has steps of 2 s.
SETTLING_S = 5.0
#: A folder that rests is listed again after so long: its time does not change if a file is written in place.
LIST_AGAIN_S = 60.0
#: So long after its first look a generation whose files may be in the making holds back those with higher numbers.
FIRST_LOOKS_S = 2.5


class RunState(enum.Enum):
    """What the ledger has of a generation."""

    NEVER_RUN = enum.auto()
    UNFINISHED = enum.auto()
    FINISHED = enum.auto()


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """The newest run of a generation, as far as it decides what is due."""

    state: RunState = RunState.NEVER_RUN
    names: frozenset[str] = frozenset()  #: of its genomes


#: The facts that `recorded_run` needs.
RUN_KINDS = tuple(
    str(kind.__struct_config__.tag) for kind in (RunOpened, GenomeAdded, GenomeReopened, TrialReopened, RunFinished)
)


def recorded_run(facts: Iterable[Fact]) -> RecordedRun:
    """The newest run among the facts of one generation."""
    state, names = RunState.NEVER_RUN, set[str]()
    for fact in facts:
        if isinstance(fact, RunOpened):
            names.clear()
        elif isinstance(fact, GenomeAdded):
            names.add(fact.name)
        if isinstance(fact, RunFinished):
            state = RunState.FINISHED
        elif isinstance(fact, RunOpened | GenomeAdded | GenomeReopened | TrialReopened):
            state = RunState.UNFINISHED
    return RecordedRun(state, frozenset(names))


@dataclass(slots=True)
class _Pause:
    """A growing pause after failures."""

    length_s: float = 0.0  #: 0: nothing failed since the last success or change
    until: float = -inf

    def begin(self, at: float) -> float:
        self.length_s = min(max(RETRY_MIN_S, 2 * self.length_s), RETRY_MAX_S)
        self.until = at + self.length_s
        return self.length_s

    def end(self, until: float = -inf) -> None:
        self.length_s, self.until = 0.0, until


@dataclass(slots=True)
class _Generation:
    """What is known of one generation."""

    state: RunState
    names: frozenset[str]  #: of its genomes; needed until the first look
    looks: FolderLooks | None = None  #: None: its folder was not listed yet
    look: Mapping[str, Stamp] = field(default_factory=dict)  #: the newest one
    complete: frozenset[str] = frozenset()  #: files that no run has read
    in_the_making: bool = False  #: whether the newest look shows such files
    modified_ns: int = -1  #: of its folder
    modified_at: float = -inf  #: when that was seen to change
    first_listed_at: float = -inf
    listed_at: float = -inf
    pause: _Pause = field(default_factory=_Pause)

    @property
    def has_work(self) -> bool:
        return self.state is RunState.UNFINISHED or bool(self.complete)


class DueGenerations:
    """The generations that have a folder, and those that are unfinished."""

    def __init__(self) -> None:
        self._known: dict[int, _Generation] = {}
        self._pause = _Pause()  #: of the farm

    # ------------------------------------------------------------------------------------------------------- the ledger

    def knows(self, generation: int) -> bool:
        """Whether `note_run` was called for it, and its folder is there or it is unfinished."""
        return generation in self._known

    def note_run(self, generation: int, run: RecordedRun) -> None:
        """What the ledger has of a generation now."""
        known = self._known.get(generation)
        if known is None:
            self._known[generation] = _Generation(run.state, run.names)
        else:
            known.state = run.state

    # ------------------------------------------------------------------------------------------------------ the folders

    def note_folders(self, found: Iterable[int]) -> None:
        """Which generations have a folder; of the others only unfinished ones are still known."""
        there = set(found)
        self._known = {
            number: known
            for number, known in self._known.items()
            if number in there or known.state is RunState.UNFINISHED
        }

    def must_list(self, generation: int, modified_ns: int, at: float) -> bool:
        """Whether a folder that was last changed then is expected to show something new."""
        known = self._known[generation]
        if known.modified_ns != modified_ns:
            known.modified_ns, known.modified_at = modified_ns, at
        return (
            at - known.modified_at < SETTLING_S or known.in_the_making or bool(known.complete or known.pause.length_s)
        )

    def to_list_again(self, at: float) -> int | None:
        """The generation whose folder was listed the longest time ago, if that is long; one at each look is enough."""
        listed = min(((known.listed_at, number) for number, known in self._known.items()), default=None)
        return listed[1] if listed is not None and at - listed[0] >= LIST_AGAIN_S else None

    def note_look(self, generation: int, look: Mapping[str, Stamp], at: float, until: float) -> None:
        """What a look at a folder has shown, which was made from `at` to `until`."""
        known = self._known[generation]
        known.listed_at = until
        if known.looks is None:
            known.looks = FolderLooks({name: stamp for name, stamp in look.items() if name in known.names})
            known.names, known.first_listed_at = frozenset(), until
        elif known.pause.length_s and look != known.look:
            known.pause.end(until + STEADY_S)
        known.look = look
        if not known.looks.is_as_before(look):
            changes = known.looks.compare(look, (), at, until)
            known.complete, known.in_the_making = frozenset(changes.complete), bool(changes.unfinished)
        if not known.has_work:
            known.pause.end()  # what could not be played is gone

    # ---------------------------------------------------------------------------------------------------------- playing

    def next_due(self, at: float) -> int | None:
        """The generation to play now: the lowest that is due; None if none is."""
        return next((number for number, since in self._due_since() if since <= at), None)

    def may_play(self, at: float) -> bool:
        """Whether no pause of the whole farm is in progress."""
        return at >= self._pause.until

    def complete(self, generation: int) -> frozenset[str]:
        """The files of its folder that are complete and that no run has read."""
        return self._known[generation].complete

    def note_begun(self, generation: int) -> None:
        """It was begun after the newest look: the files that were complete are read, or are refused."""
        known = self._known[generation]
        if known.looks is not None:
            for name in known.complete:
                known.looks.note_read(name)
        known.complete, known.state = frozenset(), RunState.UNFINISHED

    def note_ended(self, generation: int, at: float, *, finished: bool, unread: Collection[str] = ()) -> None:
        """Playing ended without an error; `unread` are files that could not be read until then, and are read later."""
        known = self._known[generation]
        known.state = RunState.FINISHED if finished else RunState.UNFINISHED
        self._pause.end()
        if unread and known.looks is not None:
            known.looks.note_unread(unread)
            known.pause.begin(at)
        else:
            known.pause.end()

    def postpone(self, generation: int, at: float) -> float:
        """It cannot be played now. Returns for how long it waits, unless its folder or the evaluator changes."""
        return self._known[generation].pause.begin(at)

    def postpone_all(self, at: float) -> float:
        """Nothing can be played now. Returns for how long."""
        return self._pause.begin(at)

    def retry_now(self) -> None:
        """What kept generations from being played may have changed: each is tried again at once."""
        self._pause.end()
        for known in self._known.values():
            known.pause.end()

    # -------------------------------------------------------------------------------------------------------- questions

    @property
    def has_postponed(self) -> bool:
        """Whether anything waits because it could not be played."""
        return bool(self._pause.length_s) or any(known.pause.length_s for known in self._known.values())

    @property
    def has_files_in_the_making(self) -> bool:
        """Whether the newest look at a folder shows files that may be incomplete."""
        return any(known.in_the_making for known in self._known.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be played unless something changes, or what failed is tried again."""
        if self._pause.length_s:
            return True
        return not self.has_files_in_the_making and not any(
            known.has_work and not known.pause.length_s for known in self._known.values()
        )

    def wait_s(self, at: float) -> float:
        """How long until a generation is due; infinite if that needs a change."""
        return max(0.0, min((since for _number, since in self._due_since()), default=inf) - at)

    def _due_since(self) -> Iterator[tuple[int, float]]:
        """The generations that have work, sorted by number, and from when on each may be played."""
        held_until = self._pause.until
        for number, known in sorted(self._known.items()):
            if known.has_work:
                yield number, max(known.pause.until, held_until)
            elif known.in_the_making:
                held_until = max(held_until, known.first_listed_at + FIRST_LOOKS_S)

"""Operations on a project that is in memory only: texts from games are what the test says."""

from collections.abc import Sequence

from pipeline.control.operations import (
    ArtifactList,
    EventPage,
    FarmEvent,
    GenerationPage,
    GenerationState,
    GenerationStatus,
    GenomePage,
    GenomeResult,
    GenomeStatus,
    ProjectStatus,
    SubmissionAnswer,
    SubmissionState,
    SubmittedGenome,
    WorkerStatus,
)
from pipeline.errors import ConflictError, NotFoundError, PipelineError


class FarmInMemory:
    """Generations up to `latest`, all alike. `text` is every text that comes from games; `calls` are the changes."""

    def __init__(self, text: str = "fine", genomes: Sequence[str] = ("a.json", "b.json"), latest: int = 7) -> None:
        self.text = text
        self.latest = latest
        self.names = list(genomes)
        self.calls: list[str] = []

    def wait_for_fact(self, known: int, wait_s: float) -> int:
        return 1

    def project(self) -> ProjectStatus:
        worker = WorkerStatus(name="local-0", state="playing", genome=self.names[0], progress=self.text)
        return ProjectStatus(
            name="farm",
            version="0",
            is_controlled=True,
            open_generation=7,
            latest_generation=self.latest,
            workers=[worker],
        )

    def _status(self, number: int) -> GenerationStatus:
        if not 1 <= number <= self.latest:
            raise NotFoundError(f"generation {number} was not played here; the last one was {self.latest}")
        count = len(self.names)
        return GenerationStatus(
            number=number,
            state=GenerationState.OPEN,
            genomes=count,
            completed=count,
            failed=0,
            trials=count,
            settled=count,
        )

    def generations(self, *, after: int = 0, limit: int = 100) -> GenerationPage:
        numbers = range(after + 1, min(self.latest, after + limit) + 1)
        return GenerationPage(items=[self._status(number) for number in numbers])

    def generation(self, number: int) -> GenerationStatus:
        return self._status(number)

    def genome(self, number: int, name: str) -> GenomeResult:
        self._status(number)
        if name not in self.names:
            raise NotFoundError(f"{name}: no genome of generation {number}")
        return GenomeResult(
            name=name, status=GenomeStatus.FAILED, reason=self.text, metrics={"score": 1.0}, params={"label": self.text}
        )

    def genomes(self, number: int, *, after: int = 0, limit: int = 100) -> GenomePage:
        page = self.names[after : after + limit]
        following = after + limit if after + limit < len(self.names) else None
        return GenomePage(generation=7, items=[self.genome(number, name) for name in page], next=following)

    def settled(self, number: int, *, after: int = 0, limit: int = 1000, wait_s: float = 0.0) -> GenomePage:
        page = self.genomes(number, after=after, limit=limit)
        return GenomePage(generation=7, items=page.items, next=after + len(page.items))

    def artifacts(self, number: int, name: str) -> ArtifactList:
        return ArtifactList(generation=number, genome=name, items=())

    def artifact(self, number: int, name: str, attempt: str, file: str, *, bytes_max: int) -> bytes:
        raise NotFoundError(f"attempt {attempt!r}: there is none")

    def explain(self, what: str, number: int | None = None) -> str:
        return f"{what}\n{self.text}"

    def events(self, *, after: int = 0, limit: int = 100, wait_s: float = 0.0) -> EventPage:
        event = FarmEvent(number=1, at="2026-12-01T00:00:00Z", generation=7, kind="trial_settled", text=self.text)
        return EventPage(items=[event] if after < 1 else [], next=1)

    def open_generation(self, number: int | None = None, *, key: str = "") -> GenerationStatus:
        self.calls.append(f"open {number} {key}")
        return self._status(7)

    def submit(self, number: int, genomes: Sequence[SubmittedGenome]) -> list[SubmissionAnswer]:
        self.calls += [f"submit {genome.name} {genome.content.decode()}" for genome in genomes]
        return [SubmissionAnswer(name=genome.name, state=SubmissionState.ACCEPTED) for genome in genomes]

    def submit_together(
        self, number: int, requests: Sequence[Sequence[SubmittedGenome]]
    ) -> Sequence[list[SubmissionAnswer] | PipelineError]:
        return [self.submit(number, genomes) for genomes in requests]

    def cancel(self, number: int, name: str) -> None:
        raise ConflictError(f"{name}: it has joined; it is played to its end")

    def close_generation(self, number: int) -> GenerationStatus:
        self.calls.append(f"close {number}")
        return self._status(number)

    def stop_generation(self, number: int) -> GenerationStatus:
        self.calls.append(f"stop {number}")
        return self._status(number)

    def drain_worker(self, name: str) -> WorkerStatus:
        return self._asked("drain", name)

    def return_worker(self, name: str) -> WorkerStatus:
        return self._asked("return", name)

    def restart_worker(self, name: str) -> WorkerStatus:
        return self._asked("restart", name)

    def _asked(self, what: str, name: str) -> WorkerStatus:
        self.calls.append(f"{what} {name}")
        return WorkerStatus(name=name, state="idle", progress=self.text)

    def reopen_failed(self, number: int) -> GenerationStatus:
        self.calls.append(f"reopen {number}")
        return self._status(number)

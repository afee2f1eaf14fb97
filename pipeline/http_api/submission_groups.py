"""Genomes of several requests that are stored in one commit, because each commit waits for the disk.

Owns: what is committed together: all that comes while the group before it is being committed. A client that is alone
waits for no other one, and the more clients there are, the larger the groups. No thread waits for a client.
Threads: all methods belong to the server's event loop; one group at a time is stored in a thread of its own.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import anyio.to_thread

from pipeline.control.operations import SubmissionAnswer, SubmittedGenome
from pipeline.errors import PipelineError

Genomes = Sequence[SubmittedGenome]
Answers = list[SubmissionAnswer]


class SubmissionGroups:
    """The submissions of all clients."""

    def __init__(self, submit: Callable[[int, Sequence[Genomes]], Sequence[Answers | PipelineError]]) -> None:
        """`submit` stores the genomes of several requests to a generation, and has an outcome for each request."""
        self._submit = submit
        self._threads = anyio.CapacityLimiter(1)
        self._collected = defaultdict[int, list[tuple[Genomes, asyncio.Future[Answers]]]](list)  #: by generation
        self._committing: asyncio.Task[None] | None = None

    async def submit(self, number: int, genomes: Genomes) -> Answers:
        """The answers to genomes, after the commit that has them. It is made also if the client goes away.

        Raises:
            PipelineError: why they, or all of that commit, are not stored.
        """
        answers: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
        self._collected[number].append((genomes, answers))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit())
        return await answers

    async def _commit(self) -> None:
        while self._collected:
            number, group = self._collected.popitem()
            outcomes: Sequence[Answers | Exception]
            try:
                submission = partial(self._submit, number, [genomes for genomes, _answers in group])
                outcomes = await anyio.to_thread.run_sync(submission, limiter=self._threads)
            except Exception as error:  # a defect, too, is the answer to every request of the group
                outcomes = [error] * len(group)
            for (_genomes, answers), outcome in zip(group, outcomes, strict=True):
                if answers.done():  # its client is gone
                    continue
                if isinstance(outcome, Exception):
                    answers.set_exception(outcome)
                else:
                    answers.set_result(outcome)

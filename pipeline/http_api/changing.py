"""The requests that change something. Each handler names one operation; all of them may be repeated."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import quote

from msgspec import Meta, Struct
from starlette.responses import Response

from pipeline.control.operations import SubmissionAnswer, SubmissionAnswers, SubmissionState, SubmittedGenome
from pipeline.core.runs import GENERATION_MAX
from pipeline.errors import NotFoundError
from pipeline.http_api.call import ApiCall
from pipeline.http_api.parameters import KEY
from pipeline.http_api.problems import Problem, bad_input

BATCH_GENOMES_MAX = 1000
BATCH_BYTES_MAX = 8 * 1024 * 1024
SMALL_BYTES_MAX = 4096  #: of a body that says little
PREFIX = "/v1"


class GenerationToOpen(Struct, frozen=True, forbid_unknown_fields=True):
    """Which generation to open."""

    number: Annotated[int, Meta(ge=1, le=GENERATION_MAX)] | None = None  #: without it the next one


class GenomeBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """Genomes that are submitted together."""

    genomes: Annotated[Sequence[SubmittedGenome], Meta(max_length=BATCH_GENOMES_MAX)]


async def open_generation(call: ApiCall) -> Response:
    """Opens a generation, or resumes it. Without a number the next one; then Idempotency-Key is needed."""
    key, opened = call.arguments.key(), await call.json(GenerationToOpen, SMALL_BYTES_MAX)
    call.generation = opened.number
    if opened.number is None and not key:
        raise bad_input(
            f"{KEY.name}: is needed if the body has no number, so that a repeated request opens no second one"
        )
    status = await call.change(lambda: call.control.open_generation(opened.number, key=key))
    call.generation = status.number
    return call.answer(status, 201, Location=f"{PREFIX}/generations/{status.number}")


async def submit(call: ApiCall) -> Response:
    """Submits genomes. What was answered as accepted is on the host's disk, and joins the generation."""
    number, batch = call.number(), await call.json(GenomeBatch, BATCH_BYTES_MAX)
    call.genomes = len(batch.genomes)
    answers = await call.submit(number, batch.genomes)
    return call.answer(SubmissionAnswers(answers))


async def put_genome(call: ApiCall) -> Response:
    """Submits one genome: its bytes."""
    number, name, sha256 = call.number(), call.new_name(), call.arguments.sha256()
    params, content = call.arguments.params(), await call.bytes(call.genome_bytes_max)
    call.genomes = 1
    genome = SubmittedGenome(name=name, content=content, sha256=sha256, params=params)
    (answer,) = await call.submit(number, [genome])
    if answer.state is SubmissionState.REFUSED:
        raise await _refusal(call, number, answer)
    if answer.state is SubmissionState.KNOWN:
        return call.answer(answer)
    return call.answer(answer, 201, Location=f"{PREFIX}/generations/{number}/genomes/{quote(name, safe='')}")


async def _refusal(call: ApiCall, number: int, answer: SubmissionAnswer) -> Problem:
    """Of a name that is known, the genome has other bytes or params."""
    try:
        await call.read(lambda: call.reading.genome(number, answer.name))
    except NotFoundError:
        return Problem(422, "genome-refused", answer.reason)
    return Problem(409, "conflict", answer.reason)


async def cancel(call: ApiCall) -> Response:
    """Withdraws a genome that waits."""
    number, name = call.number(), call.arguments.name()
    call.genome = name
    await _no_body(call)
    await call.change(lambda: call.control.cancel(number, name))
    return Response(status_code=204)


async def close(call: ApiCall) -> Response:
    """Takes no more genomes; the generation is finished when everything is settled."""
    number = call.number()
    await _no_body(call)
    return call.answer(await call.change(lambda: call.control.close_generation(number)))


async def stop(call: ApiCall) -> Response:
    """Stops playing a generation; what is counted is kept, and it can be opened again."""
    number = call.number()
    await _no_body(call)
    return call.answer(await call.change(lambda: call.control.stop_generation(number)))


async def drain_worker(call: ApiCall) -> Response:
    """Gives a worker no more attempts, within seconds; it finishes its game."""
    worker = call.worker_name()
    await _no_body(call)
    return call.answer(await call.change(lambda: call.control.drain_worker(worker)), 202)


async def return_worker(call: ApiCall) -> Response:
    """Gives a drained worker attempts again, within seconds."""
    worker = call.worker_name()
    await _no_body(call)
    return call.answer(await call.change(lambda: call.control.return_worker(worker)), 202)


async def restart_worker(call: ApiCall) -> Response:
    """Restarts a worker's machine, or its agent on this computer or on a site. Another one plays its game again."""
    worker = call.worker_name()
    await _no_body(call)
    return call.answer(await call.change(lambda: call.control.restart_worker(worker)), 202)


async def reopen_failed(call: ApiCall) -> Response:
    """Plays the failed genomes of a finished generation once more."""
    number = call.number()
    await _no_body(call)
    return call.answer(await call.change(lambda: call.control.reopen_failed(number)))


async def _no_body(call: ApiCall) -> None:
    """Reads a body that has no meaning, as some clients send `{}`."""
    await call.body.read(call.request, SMALL_BYTES_MAX)

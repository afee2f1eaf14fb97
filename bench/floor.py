"""A lower bound: two processes that do only what an exchange through files cannot do without, for each evaluation.

Files are reused as the program reuses them (docs/decisions/0006-file-reuse.md): a staged record is filled again after
what it was published as was removed, so that no file is created.
"""

import multiprocessing
import os
import time
from typing import Any

from bench.games import genome
from bench.samples import per_second

REMARK = (
    "the floor publishes and removes start, claim and result, appends result and facts, and flushes once for 32; it "
    "leaves out waiting, scans, reading, JSON, digests, decisions, copies of genomes and the evaluator"
)
EVALUATIONS_PER_COMMIT = 32  # as many as a tick collects when queues are deep
START, CLAIM, RESULT, FACTS = b"s" * 520, b"c" * 250, b"r" * 480, b"f" * 500
PROCESSES = 2


def measure(folder: str, count: int) -> dict[str, float]:
    """Evaluations per second of both processes together."""
    barrier = multiprocessing.Barrier(PROCESSES)
    spans: Any = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(target=_play_all, args=(f"{folder}/{n}", count // PROCESSES, barrier, spans))
        for n in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    begun, ended = zip(*(spans.get() for _ in workers), strict=True)
    for worker in workers:
        worker.join()
    return {"rate": per_second(count // PROCESSES * PROCESSES, max(ended) - min(begun))}


def _play_all(base: str, count: int, barrier: Any, spans: Any) -> None:
    for name in ("inbox/tmp", "outbox/tmp"):
        os.makedirs(f"{base}/{name}")
    payload = genome("noop 0", 0)
    inbox, outbox = f"{base}/inbox", f"{base}/outbox"
    for folder, name in ((inbox, "start"), (outbox, "claim"), (outbox, "result")):
        with open(f"{folder}/tmp/{name}", "wb"):
            pass
    with (
        open(f"{base}/scratch.bin", "wb", buffering=0) as scratch,
        open(f"{base}/archive", "ab", buffering=0) as archive,
        open(f"{base}/ledger", "ab", buffering=0) as ledger,
    ):
        barrier.wait()
        begun = time.monotonic()
        for number in range(1, count + 1):
            attempt = f"g0001-{number:04d}-t1-a1-0123456789ab"
            _publish(inbox, "start", f"{attempt}.start.json", START)  # the host
            _publish(outbox, "claim", f"{attempt}.started.json", CLAIM)  # the agent
            scratch.seek(0)
            scratch.write(payload)
            _publish(outbox, "result", f"{attempt}.result.json", RESULT)
            archive.write(RESULT)  # the host
            ledger.write(FACTS)
            if number % EVALUATIONS_PER_COMMIT == 0:
                os.fsync(ledger.fileno())
            os.unlink(f"{inbox}/{attempt}.start.json")
            os.unlink(f"{outbox}/{attempt}.result.json")  # the agent
            os.unlink(f"{outbox}/{attempt}.started.json")
        spans.put((begun, time.monotonic()))


def _publish(folder: str, spare: str, name: str, data: bytes) -> None:
    staged = f"{folder}/tmp/{spare}"
    descriptor = os.open(staged, os.O_WRONLY)
    os.write(descriptor, data)
    os.close(descriptor)
    os.link(staged, f"{folder}/{name}")

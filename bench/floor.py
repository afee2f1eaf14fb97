"""The lower bound: two processes that write, link, flush and remove the files of an evaluation, without any protocol.

Neither process waits, lists, reads, decodes or decides anything, so no exchange through these files can be faster.
"""

import multiprocessing
import os
import time
from typing import Any

from bench.games import genome

EVALUATIONS_PER_COMMIT = 2  # of the ledger: a tick collects a result from each of two workers
START, CLAIM, RESULT, PAGES = b"s" * 520, b"c" * 250, b"r" * 480, b"p" * 8192


def measure(folder: str, count: int) -> dict[str, float]:
    """Evaluations per second of both processes together."""
    processes = 2
    barrier = multiprocessing.Barrier(processes)
    spans: Any = multiprocessing.Queue()
    workers = [
        multiprocessing.Process(target=_write_all, args=(f"{folder}/{n}", count // processes, barrier, spans))
        for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    begun, ended = zip(*(spans.get() for _ in workers), strict=True)
    for worker in workers:
        worker.join()
    return {"rate": count // processes * processes / (max(ended) - min(begun))}


def _write_all(base: str, count: int, barrier: Any, spans: Any) -> None:
    for name in ("inbox/tmp", "outbox/tmp", "scratch"):
        os.makedirs(f"{base}/{name}")
    payload = genome("noop 0", 0)
    _put(f"{base}/snapshot", payload)
    scratch = os.open(f"{base}/scratch/genome.bin", os.O_WRONLY | os.O_CREAT)
    ledger = os.open(f"{base}/ledger", os.O_WRONLY | os.O_CREAT)
    results = os.open(f"{base}/results.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    barrier.wait()
    begun = time.monotonic()
    for number in range(count):
        os.pwrite(scratch, payload, 0)
        _write_one(base, f"g0001-{number:04d}-t1-a1-0123456789ab")
        if number % EVALUATIONS_PER_COMMIT == 0:
            os.write(results, RESULT * EVALUATIONS_PER_COMMIT)
            os.write(ledger, PAGES)
            os.fsync(ledger)
    spans.put((begun, time.monotonic()))
    os.close(results)
    os.close(ledger)
    os.close(scratch)


def _write_one(base: str, attempt: str) -> None:
    inbox, outbox = f"{base}/inbox", f"{base}/outbox"
    # The host publishes.
    os.link(f"{base}/snapshot", f"{inbox}/{attempt}.genome")
    _publish(inbox, f"{attempt}.start.json", START)
    # The agent publishes its claim, flushed, and the result.
    _publish(outbox, f"{attempt}.started.json", CLAIM)
    claim = os.open(f"{outbox}/{attempt}.started.json", os.O_RDWR)
    os.fsync(claim)
    os.close(claim)
    _publish(outbox, f"{attempt}.result.json", RESULT)
    # The host removes its files, the agent removes its own.
    for name in (f"{inbox}/{attempt}.start.json", f"{inbox}/{attempt}.genome"):
        os.unlink(name)
    for name in (f"{outbox}/{attempt}.result.json", f"{outbox}/{attempt}.started.json"):
        os.unlink(name)


def _publish(folder: str, name: str, data: bytes) -> None:
    staged = f"{folder}/tmp/{name}"
    _put(staged, data)
    os.link(staged, f"{folder}/{name}")
    os.unlink(staged)


def _put(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.write(descriptor, data)
    os.close(descriptor)

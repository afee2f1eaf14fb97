"""What the caller of a system has in hand after a call, also after one that raised."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Answer:
    """Filled by a system while it plays the generation."""

    fitness: dict[int, float] = field(default_factory=dict)  #: by number of the genome, or of the evaluation
    failed: list[int] = field(default_factory=list)  #: the genomes of which the system says that they failed
    seconds: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Measures from the first submission until the caller has all that it gets."""
        begun_s = time.monotonic()
        try:
            yield
        finally:
            self.seconds = time.monotonic() - begun_s

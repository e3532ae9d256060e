"""Times one loop over data sets, the same way on both sides; needs the standard library alone."""

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def repeated(once: Callable[[str], int], names: Sequence[str], repeats: int) -> dict[str, Any]:
    """Images of all sets, and the median of wall and processor seconds, warmed up on the first set.

    Args:
        once: goes through one set and says how many images it has.
        names: of the sets.
        repeats: times that all sets are gone through, at least 1.
    """
    once(names[0])
    wall, cpu = [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), processor_time()
        images = sum(map(once, names))
        wall.append(time.perf_counter() - started)
        cpu.append(processor_time() - used)
    return {"images": images, "seconds": statistics.median(wall), "cpu_seconds": statistics.median(cpu)}


def processor_time() -> float:
    """Seconds of processor time of this process and of its children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))

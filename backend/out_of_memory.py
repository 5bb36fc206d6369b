"""Running out of memory, recognised: an allocator that gives no more, or a kernel that kills."""

from __future__ import annotations

from pathlib import Path

# The words of torch's allocators on GPUs and on CPUs, and of the operating system.
WORDS = ("out of memory", "can't allocate memory", "Cannot allocate memory", "not enough memory")
COUNTERS = Path("/proc/vmstat")  # of this machine; its oom_kill counts what the kernel has killed for want of memory


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception is about memory that there is not."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(word in str(error) for word in WORDS)
    )


def kernel_kills(counters: Path = COUNTERS) -> int:
    """Return how many processes the kernel has killed for want of memory so far; 0 where it does not say."""
    try:
        lines = counters.read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def told(rank: int, phase: str, cause: str) -> str:
    """Return the message of a run whose rank ran out of memory."""
    where = f" in the phase {phase}" if phase else ""
    return (
        f"rank {rank} ran out of memory{where}: {cause}. `tunewright retry` lists what helps, and what each would "
        "save; the page does so too"
    )

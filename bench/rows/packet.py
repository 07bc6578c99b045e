"""The packet plane: what a frame costs, without drivers."""

from figures import Figure, row

# Cold: neither in the first nor in the second cache; a card, too, leaves frames in the third.
ROWS = [
    ("packet_classify_warm", "classify, 64 entries, frames in the cache", 64, 4096, "classify", 20),
    ("packet_classify_warm_4096", "classify, 4096 entries, frames in the cache", 4096, 4096, "classify", 20),
    ("packet_classify_cold", "classify, 64 entries, frames not in the core's caches", 64, 65536, "classify", 30),
    ("packet_classify_cold_4096", "classify, 4096 entries, frames not in the core's caches", 4096, 65536, "classify", 30),
    ("packet_plan_warm", "a worker's run without drivers: pop, classify, 32 outputs, count", 64, 4096, "plan", None),
    ("packet_plan_cold", "the same, 4096 entries, frames not in the core's caches", 4096, 65536, "plan", None),
]


def cycles(bench, entries, frames, what):
    return bench.call_json(bench.program("packet_classify"), str(entries), str(frames), what)["cycles"]


def make(name, title, entries, frames, what, reach):
    @row(name, title, "cycles", None if reach is None else ("<=", reach))
    def measure(bench):
        got = [value for _ in range(bench.times) for value in cycles(bench, entries, frames, what)]
        return Figure(min(got), samples={"cycles": got})


for words in ROWS:
    make(*words)


@row("packet_classify_memory_4096", "classify, 4096 entries, frames in no cache at all", "cycles")
def from_memory(bench):
    """Beside a loop that reads a byte of each: what is more is ours."""
    got, bare = [], []
    for _ in range(bench.times):
        got += cycles(bench, 4096, 65536, "classify_flushed")
        bare += cycles(bench, 4096, 65536, "read_flushed")
    return Figure(min(got), min(bare), "reading a byte", samples={"cycles": got, "reading": bare})

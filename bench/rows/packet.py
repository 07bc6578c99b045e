"""The packet plane: what a frame costs, without drivers."""

from figures import Figure, row

ROWS = [
    ("packet_classify_warm", "classify, 64 entries, frames in the cache", 64, 4096, "classify", 20),
    ("packet_classify_warm_4096", "classify, 4096 entries, frames in the cache", 4096, 4096, "classify", 20),
    ("packet_classify_cold", "classify, 64 entries, frames not in the cache", 64, 65536, "classify", 30),
    ("packet_classify_cold_4096", "classify, 4096 entries, frames not in the cache", 4096, 65536, "classify", 30),
    ("packet_plan_warm", "a worker's run without drivers: pop, classify, 32 outputs, count", 64, 4096, "plan", None),
    ("packet_plan_cold", "the same, 4096 entries, frames not in the cache", 4096, 65536, "plan", None),
]


def make(name, title, entries, frames, what, reach):
    @row(name, title, "cycles", None if reach is None else ("<=", reach))
    def measure(bench):
        got = bench.call_json(bench.program("packet_classify"), str(entries), str(frames), what)["cycles"]
        return Figure(min(got), samples={"cycles": got})


for words in ROWS:
    make(*words)

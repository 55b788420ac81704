"""Cost against size: what docs/benchmarks/*.svg shows."""

import json
import os

import plot
import programs
from targets import FULL, RAW_WIRE

FOLDER = os.path.join(programs.ROOT, "docs", "benchmarks")
DATA = os.path.join(FOLDER, "scale.json")

INFLIGHT = [1, 4, 16, 64, 256, 1024, 4096]
BODIES = [16, 256, 4096, 65536, 1048576]
CONNECTIONS = [1, 2, 4, 8]
CHANNELS = [1, 2, 4, 8, 16, 32, 64]
CHILDREN = [10, 100, 1000, 10_000, 100_000, 1_000_000]
OURS, RAW = "ours, both sides", "librabbitmq, same wire"


def measure(broker, tell, save, seconds=2.0, repeats=3, most_children=1_000_000):
    """Measures all curves: {curve: {name: [[x, {field: value}], ...]}}, handed to `save` whenever a point is added."""
    data = {}

    def point(curve, name, x, make, repeats=repeats):
        lines = []
        for _ in range(repeats):
            try:
                line = make()
            except programs.Failure as failure:
                # The other points are still worth having.
                programs.warn("%s: %s at %s is left out: %s" % (curve, name, x, failure))
                return
            line["run"] = "%s: %s at %s" % (curve, name, x)
            tell(line)
            lines.append(line)
        fields = [key for key, value in lines[0].items() if isinstance(value, (int, float))]
        median = {key: sorted(line[key] for line in lines)[len(lines) // 2] for key in fields}
        data.setdefault(curve, {}).setdefault(name, []).append([x, median])
        save(data)

    def rpc(curve, x, name, side, **options):
        point(curve, name, x, lambda: programs.rpc_pair(
            broker, side, side, seconds=seconds, warmup=seconds / 2, **options))

    for inflight in INFLIGHT:
        for name, side in ((OURS, FULL), (RAW, RAW_WIRE)):
            rpc("inflight", inflight, name, side, inflight=inflight)
    for body in BODIES:
        # As many bytes at once as the broker can hold without paging.
        inflight = 64 if body < 100_000 else 8
        for name, side in ((OURS, FULL), (RAW, RAW_WIRE)):
            rpc("body", body, name, side, inflight=inflight, body=body)
    def children_of(numbers):
        for children in numbers:
            if children > most_children:
                continue
            once = 1 if children >= 100_000 else repeats
            for kind, name in (("actor", "actor"), ("worker", "with run()")):
                point("children", name, children, lambda: programs.ours("scale", children, kind, 180), once)
            point("children", "OTP supervisor", children, lambda: programs.otp("scale", children, 180), once)

    children_of(CHILDREN[:-1])
    for connections in CONNECTIONS:
        rpc("connections", connections, OURS, FULL, inflight=256, connections=connections, channels=connections)
    for channels in CHANNELS:
        rpc("channels", channels, OURS, FULL, inflight=256, connections=1, channels=channels)
    children_of(CHILDREN[-1:])


PLOTS = [
    ("inflight", "rps", "Throughput", "calls in flight", "calls/s", "throughput-inflight"),
    ("inflight", "cpu_us_per_call", "Client CPU a call", "calls in flight", "us", "cpu-inflight"),
    ("inflight", "p50_us", "Latency, p50", "calls in flight", "us", "latency-inflight"),
    ("body", "rps", "Throughput", "body, bytes", "calls/s", "throughput-body"),
    ("body", "cpu_us_per_call", "Client CPU a call", "body, bytes", "us", "cpu-body"),
    ("connections", "rps", "Throughput, 256 in flight", "connections of the caller", "calls/s",
     "throughput-connections"),
    ("connections", "cpu_us_per_call", "Client CPU a call, 256 in flight", "connections of the caller", "us",
     "cpu-connections"),
    ("channels", "rps", "Throughput, 256 in flight", "channels on one connection", "calls/s", "throughput-channels"),
    ("channels", "cpu_us_per_call", "Client CPU a call, 256 in flight", "channels on one connection", "us",
     "cpu-channels"),
    ("children", "restart_us", "Restart after a kill, p50", "children of the supervisor", "us", "restart-children"),
    ("children", "start_us", "Start of a supervisor, for each child", "children of the supervisor", "us",
     "start-children"),
    ("children", "stop_us", "Stop of a supervisor, for each child", "children of the supervisor", "us",
     "stop-children"),
    ("children", "memory", "Memory of a child", "children of the supervisor", "bytes", "memory-children"),
]


def draw(data):
    """Writes the plots of what `measure` found, and the data itself."""
    os.makedirs(FOLDER, exist_ok=True)
    with open(DATA, "w") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    for curve, field, title, x_label, y_label, name in PLOTS:
        if curve not in data:
            continue
        curves = {side: [(x, values.get(field)) for x, values in points] for side, points in data[curve].items()}
        with open(os.path.join(FOLDER, name + ".svg"), "w") as file:
            file.write(plot.svg(title, x_label, y_label, curves))

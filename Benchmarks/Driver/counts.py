"""The regression guard: instructions and allocations of one operation of each hot path, counted by callgrind.

Each path is run twice, with few and with many operations; the difference is what the operations cost, without start and
stop. They are counts, not times: the load of the machine does not change them. What the threads of a caller do in which
order does, a little; the tolerance is for that.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import tempfile

import programs

FILE = os.path.join(programs.BENCHMARKS, "Counts.json")
# How much dearer an operation may be than recorded.
TOLERANCE = {"instructions": 0.05, "allocations": 0.03}
# With several calls in flight it depends on the moment how many share a read, a wake-up and an acknowledgement.
TOLERANCE_IN_FLIGHT = {"instructions": 0.15, "allocations": 0.15}


def stripped(program):
    """A copy without debug information: valgrind does not know the newer forms of it."""
    copy = os.path.join(programs.BUILT, os.path.basename(program) + "-stripped")
    subprocess.run(["strip", "-g", "-o", copy, program], check=True)
    return copy


def callgrind(arguments, **options):
    """Runs a program under callgrind: (instructions, allocations)."""
    folder = tempfile.mkdtemp(prefix="counts-")
    try:
        out = os.path.join(folder, "out")
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, "--log-file=" + os.path.join(folder, "log"),
             *arguments],
            stdout=subprocess.PIPE, timeout=1200, text=True, **options,
        )
        if done.returncode != 0:
            raise programs.Failure("%s failed under callgrind (%d)" % (" ".join(arguments), done.returncode))
        return read(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read(path):
    """The total of instructions in a callgrind file, and how often the allocating functions were called."""
    instructions = allocations = 0
    names, callee = {}, None
    allocating = re.compile(r"^(malloc|calloc|realloc|aligned_alloc|posix_memalign|memalign)(@.*|'\d+)?$")
    for name in glob.glob(path + "*"):
        with open(name, errors="replace") as file:
            for line in file:
                if line.startswith("cfn="):
                    found = re.match(r"cfn=\((\d+)\)(?: (.*))?", line.rstrip())
                    if found.group(2):
                        names[found.group(1)] = found.group(2)
                    callee = names.get(found.group(1), "")
                elif line.startswith("fn="):
                    found = re.match(r"fn=\((\d+)\)(?: (.*))?", line.rstrip())
                    if found.group(2):
                        names[found.group(1)] = found.group(2)
                elif line.startswith("calls=") and callee is not None and allocating.match(callee):
                    allocations += int(line[len("calls=") :].split()[0])
                elif line.startswith("summary:"):
                    instructions += int(line.split()[1])
    return instructions, allocations


def per_operation(arguments, few, many):
    """`arguments` is a function of the number of operations."""
    (less, fewer), (more, further) = (callgrind(arguments(count)) for count in (few, many))
    return {
        "instructions": round((more - less) / (many - few)),
        "allocations": round((further - fewer) / (many - few), 2) + 0.0,
    }


def measure(broker, tell):
    counts = {}
    rpc, supervision = stripped(programs.RPC), stripped(programs.SUPERVISION)

    def found(name, value):
        counts[name] = value
        tell({"count": name, **value})

    def repeat(case, kind="actor"):
        return lambda count: [supervision, case, "--kind", kind, "--times", str(count)]

    found("restart, actor", per_operation(repeat("repeat-restart"), 200, 2200))
    found("restart, inline", per_operation(repeat("repeat-restart", "inline"), 200, 2200))
    found("restart, with run()", per_operation(repeat("repeat-restart", "worker"), 200, 2200))
    for kind in ("actor", "inline"):
        found("start and stop of a template's child, %s" % kind, per_operation(
            lambda count: [supervision, "start", "--kind", kind, "--children", str(count)], 500, 2500))
    found("registry lookup", per_operation(repeat("repeat-lookup"), 1000, 101_000))

    def client(mode, inflight):
        def arguments(count):
            return [rpc, "client", "--url", broker.url, "--service", "counted", "--mode", mode,
                    "--inflight", str(inflight), "--calls", str(count)]
        return arguments

    for mode, server in (("full", "wire"), ("plain", "echo")):
        serving = [programs.RAW, "server", "--port", broker.port, "--service", "counted", "--mode", server]
        for inflight in (1, 64):
            with programs.Server(serving):
                # A tenth more calls than asked for run to warm up.
                value = per_operation(client(mode, inflight), 500, 2500)
                value["instructions"] = round(value["instructions"] / 1.1)
                value["allocations"] = round(value["allocations"] / 1.1, 2)
                found("call, %s, %d in flight" % (mode, inflight), value)

    found("reply, 64 in flight", receiver(broker, rpc))
    return counts


def receiver(broker, rpc):
    """One request answered by our receiver: its own totals with few requests and with many."""
    totals = []
    for count in (500, 3500):
        folder = tempfile.mkdtemp(prefix="counts-")
        try:
            out = os.path.join(folder, "out")
            serving = ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out,
                       "--log-file=" + os.path.join(folder, "log"),
                       rpc, "server", "--url", broker.url, "--service", "counted"]
            calling = [programs.RAW, "client", "--port", broker.port, "--service", "counted", "--mode", "wire",
                       "--calls", str(count)]
            with programs.Server(serving) as server:
                programs.run(calling)
            totals.append((server.result["calls"], *read(out)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    (few, less, fewer), (many, more, further) = totals
    return {
        "instructions": round((more - less) / (many - few)),
        "allocations": round((further - fewer) / (many - few), 2) + 0.0,
    }


def compare(counts):
    """What has become dearer than recorded, as sentences; what has become cheaper, too."""
    with open(FILE) as file:
        recorded = json.load(file)
    dearer, notes = [], []
    for name, value in counts.items():
        if name not in recorded:
            notes.append("%s is not recorded" % name)
            continue
        tolerances = TOLERANCE_IN_FLIGHT if "64 in flight" in name else TOLERANCE
        for kind, tolerance in tolerances.items():
            before, now = recorded[name][kind], value[kind]
            slack = max(before * tolerance, 0.5)
            sentence = "%s: %s a time, %s recorded: %s" % (name, kind, before, now)
            if now > before + slack:
                dearer.append(sentence)
            elif now < before - slack:
                notes.append(sentence + " (better: record it with --counts --record)")
    return dearer, notes


def record(counts):
    with open(FILE, "w") as file:
        json.dump(counts, file, indent=2)
        file.write("\n")

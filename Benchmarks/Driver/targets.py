"""What is measured, and what must hold: the table of targets."""

from dataclasses import dataclass
from typing import Callable, Optional

import observer
import programs

RAW_WIRE, RAW_ECHO = ("raw", "wire"), ("raw", "echo")
FULL, PLAIN, ACTOR = ("ours", "full"), ("ours", "plain"), ("ours", "actor")
STRUCT, PROTOBUF, BYTES = ("ours", "struct"), ("ours", "protobuf"), ("ours", "bytes")
# Bytes of the struct in JSON.
STRUCT_SIZE = 104


@dataclass
class Sizes:
    """How long and how large: a full run, or a quick one."""

    seconds: float = 3.0
    warmup: float = 1.0
    children: int = 100_000
    depth: int = 7
    messages: int = 200_000


@dataclass
class Target:
    name: str
    what: str
    against: str
    # Both return a number from what one round has measured.
    subject: Callable
    baseline: Callable
    unit: str
    # `None`: printed, not judged.
    limit: Optional[float] = None
    at_least: bool = False

    def holds(self, ratio):
        if self.limit is None:
            return None
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    @property
    def bound(self):
        if self.limit is None:
            return ""
        return ("at least " if self.at_least else "at most ") + ("%g" % self.limit) + "x"


class Round:
    """One round's measurements: each is made when it is first asked for, and once."""

    def __init__(self, broker, sizes, tell):
        self.broker = broker
        self.sizes = sizes
        self.tell = tell
        self.made = {}

    def _once(self, key, make):
        if key not in self.made:
            line = make()
            line["run"] = key
            self.tell(line)
            self.made[key] = line
        return self.made[key]

    def rpc(
        self, client, server, inflight=64, rate=None, connections=None, channels=None, body=None, client_flags=(),
        server_flags=()
    ):
        key = "%s-%s to %s-%s at %d" % (*client, *server, inflight)
        if rate:
            key += ", %s" % rate
        if connections or channels:
            key += ", %s x %s" % (connections, channels)
        if body:
            key += ", %d bytes" % body
        for flag in (*client_flags, *server_flags):
            key += ", " + flag

        def make():
            options = {"inflight": inflight, "connections": connections, "channels": channels,
                       "body": body}
            options.update(client_flags=client_flags, server_flags=server_flags)
            if rate == "half load":
                # Of what our caller and receiver manage together, for both.
                options["rate"] = max(1, round(self.rpc(FULL, FULL)["rps"] / 2))
                options["inflight"] = 256
            return programs.rpc_pair(
                self.broker, client, server, seconds=self.sizes.seconds, warmup=self.sizes.warmup, **options
            )

        return self._once(key, make)

    def publish(self, program, inflight, flags=()):
        key = " ".join([program, "publishes %d at once" % inflight, *flags])
        sizes = self.sizes
        return self._once(
            key,
            lambda: programs.publish(self.broker, program, inflight, sizes.seconds, sizes.warmup, flags),
        )

    def observer(self):
        return self._once("an observer of 10,000 processes under 5,000 calls/s", lambda: observer.measure(3 * self.sizes.seconds))

    def actor_times(self):
        rounds = 3 if self.sizes.seconds < 3 else 5
        return self._once("virtual actors", lambda: programs.actor_times(self.broker, self.sizes.seconds, rounds))

    def consumer(self, program, batch=1):
        key = "%s consumes, batches of %d" % (program, batch)
        return self._once(key, lambda: programs.consumer(self.broker, program, self.sizes.messages, batch))

    def ours(self, case, children, kind):
        return self._once("ours %s %s %d" % (case, kind, children), lambda: programs.ours(case, children, kind))

    def otp(self, case, children):
        return self._once("otp %s %d" % (case, children), lambda: programs.otp(case, children))

    def elixir(self, case, count):
        return self._once("elixir %s %d" % (case, count), lambda: programs.elixir(case, count))


def rpc(name, what, against, subject, baseline, field, unit, limit=None, at_least=False):
    """`subject` and `baseline` are the arguments of Round.rpc; `field` is of the client's line, or "server.field"."""

    def take(arguments):
        def value(round_):
            pair, options = arguments
            line = round_.rpc(*pair, **options)
            if field.startswith("server."):
                return line["server"][field[len("server.") :]]
            return line[field]

        return value

    return Target("rpc-" + name, what, against, take(subject), take(baseline), unit, limit, at_least)


def publishing(name, what, inflight, flags=(), limit=None):
    def subject(round_):
        return round_.publish("ours", inflight, flags)[CPU]

    def baseline(round_):
        return round_.publish("raw", inflight)[CPU]

    return Target("publish-" + name, what, "librabbitmq", subject, baseline, "us", limit)


def tail(name, what, options, limit):
    def take(field):
        return lambda round_: round_.rpc(FULL, FULL, **options)[field]

    return Target("rpc-" + name, what, "its own p50", take("p99_us"), take("p50_us"), "us", limit)


def virtual_actors(name, what, against, subject, baseline, unit):
    """Both are fields of one line: printed, not judged."""
    return Target("rpc-actor-" + name, what, against, lambda round_: round_.actor_times()[subject],
                  lambda round_: round_.actor_times()[baseline], unit)


def pair(client, server, **options):
    return ((client, server), options)


def supervision(name, what, against, case, count, kind, baseline, unit, limit=None, at_least=False, field="value"):
    """`baseline` is ("otp" or "elixir", its case); `count` a number, or a function of the sizes."""

    def number(round_):
        return count(round_.sizes) if callable(count) else count

    def subject(round_):
        return round_.ours(case, number(round_), kind)[field]

    def other(round_):
        return getattr(round_, baseline[0])(baseline[1], number(round_))[field]

    return Target("supervision-" + name, what, against, subject, other, unit, limit, at_least)


def worker(name, what, program, batch, field, unit, at_least=False):
    """A worker of ours against another consumer that acknowledges the same way."""
    against = {"raw": "raw librabbitmq consumer", "go": "amqp091-go consumer"}[program]
    return Target("worker-" + name, what, against, lambda round_: round_.consumer("worker", batch)[field],
                  lambda round_: round_.consumer(program, batch)[field], unit, at_least=at_least)


def consuming(kind, field, unit, limit=None, at_least=False):
    """A consumer of the pool, handler or sequence, against a raw one that acknowledges each message as well."""
    what = {"rate": "messages a second", "cpu_us_per_message": "CPU a message"}[field]
    name = "consume-%s-%s" % (kind, {"rate": "rate", "cpu_us_per_message": "cpu"}[field])
    return Target(name, "consuming with an ack of each, %s: %s" % (kind, what), "raw librabbitmq consumer",
                  lambda round_: round_.consumer(kind)[field], lambda round_: round_.consumer("raw")[field], unit, limit,
                  at_least)


def payload(mode, what):
    """A call with an argument and a result as users have them, against the raw loop with as many bytes."""
    raw = pair(RAW_WIRE, RAW_WIRE, body=STRUCT_SIZE)
    options = {"body": STRUCT_SIZE} if mode == BYTES else {}
    yield rpc(mode[1] + "-cpu-64", what + ", client CPU, 64 in flight", WIRE, pair(mode, RAW_WIRE, **options), raw, CPU, "us")
    yield rpc(mode[1] + "-receiver-cpu-64", what + ", receiver CPU, caller ours too", "raw echo server, same wire",
              pair(mode, mode, **options), raw, "server." + CPU, "us")
    yield rpc(mode[1] + "-throughput-64", what + ", caller and receiver ours", WIRE, pair(mode, mode, **options), raw, "rps",
              "1/s", at_least=True)


PEERS = {"raw": "librabbitmq (C)", "go": "amqp091-go", "erlang": "amqp_client (Erlang)", "java": "amqp-client (Java)",
         "pika": "pika (Python)"}


def peers():
    """Our caller against clients made with other libraries, all with the same server."""
    for peer, name in PEERS.items():
        wire, echo = pair((peer, "wire"), RAW_WIRE), pair((peer, "echo"), RAW_ECHO)
        yield rpc("peer-cpu-" + peer, "full call, client CPU, 64 in flight", name + ", same wire",
                  pair(FULL, RAW_WIRE), wire, CPU, "us", None if peer == "raw" else 1)
        yield rpc("peer-rate-" + peer, "full call, calls a second", name + ", same wire",
                  pair(FULL, RAW_WIRE), wire, "rps", "1/s", at_least=True)
        yield rpc("peer-p99-" + peer, "full call, p99", name + ", same wire", pair(FULL, RAW_WIRE), wire, "p99_us", "us")
        yield rpc("peer-echo-cpu-" + peer, "plain call, client CPU, 64 in flight", name + ", bare echo",
                  pair(PLAIN, RAW_ECHO), echo, CPU, "us")


def slow_handlers(field, what):
    """One request in 200 takes 50 ms: its handler holds its thread, or gives it up."""
    def slow(kind):
        return pair(FULL, FULL, inflight=16, server_flags=("slow=" + kind,))

    return rpc("blocking-" + field[:3], "one handler in 200 blocks its thread for 50 ms, 16 in flight, " + what,
               "it suspends for 50 ms", slow("blocking"), slow("suspending"), field, "us")


def many(sizes):
    return sizes.children


def depth(sizes):
    return sizes.depth


CPU, WIRE, ECHO = "cpu_us_per_call", "same wire", "bare echo"
EXECUTOR = ("executor",)
# What may be asked for on both sides: the caller's executor, and handlers on the connection.
OPT_IN = {"client_flags": EXECUTOR, "server_flags": ("on-connection",)}

TARGETS = [
    rpc("caller-cpu-64", "full call, client CPU, 64 in flight", WIRE,
        pair(FULL, RAW_WIRE), pair(RAW_WIRE, RAW_WIRE), CPU, "us", 2),
    rpc("caller-cpu-64-executor", "the same, on the caller's executor", WIRE,
        pair(FULL, RAW_WIRE, client_flags=EXECUTOR), pair(RAW_WIRE, RAW_WIRE), CPU, "us", 1.5),
    rpc("caller-cpu-256", "full call, client CPU, 256 in flight", WIRE,
        pair(FULL, RAW_WIRE, inflight=256), pair(RAW_WIRE, RAW_WIRE, inflight=256), CPU, "us", 2.3),
    rpc("caller-cpu-256-executor", "the same, on the caller's executor", WIRE,
        pair(FULL, RAW_WIRE, inflight=256, client_flags=EXECUTOR), pair(RAW_WIRE, RAW_WIRE, inflight=256), CPU, "us", 1.8),
    rpc("caller-cpu-64-bare", "full call, client CPU, 64 in flight", ECHO,
        pair(FULL, RAW_WIRE), pair(RAW_ECHO, RAW_ECHO), CPU, "us"),
    rpc("caller-cpu-64-default", "the same with the default of 2 connections", "one connection, ours",
        pair(FULL, RAW_WIRE, connections=2, channels=2), pair(FULL, RAW_WIRE), CPU, "us", 1.1),
    rpc("caller-cpu-64-default-executor", "the same, on the caller's executor", "one connection, ours",
        pair(FULL, RAW_WIRE, connections=2, channels=2, client_flags=EXECUTOR),
        pair(FULL, RAW_WIRE, client_flags=EXECUTOR), CPU, "us", 1.1),
    rpc("plain-cpu-64", "plain call, client CPU, 64 in flight", ECHO,
        pair(PLAIN, RAW_ECHO), pair(RAW_ECHO, RAW_ECHO), CPU, "us", 1.9),
    rpc("plain-cpu-64-executor", "the same, on the caller's executor", ECHO,
        pair(PLAIN, RAW_ECHO, client_flags=EXECUTOR), pair(RAW_ECHO, RAW_ECHO), CPU, "us", 1.5),
    rpc("receiver-cpu-64", "receiver CPU, trivial handler", "raw echo server, same wire",
        pair(RAW_WIRE, FULL), pair(RAW_WIRE, RAW_WIRE), "server." + CPU, "us", 1.75),
    rpc("receiver-cpu-64-connection", "the same, handler on the connection", "raw echo server, same wire",
        pair(RAW_WIRE, FULL, server_flags=OPT_IN["server_flags"]), pair(RAW_WIRE, RAW_WIRE), "server." + CPU, "us", 1.25),
    rpc("receiver-cpu-64-bare", "receiver CPU, trivial handler", "raw echo server, bare",
        pair(RAW_WIRE, FULL), pair(RAW_ECHO, RAW_ECHO), "server." + CPU, "us"),
    rpc("throughput-64", "full call, caller and receiver ours", WIRE,
        pair(FULL, FULL), pair(RAW_WIRE, RAW_WIRE), "rps", "1/s", 0.8, at_least=True),
    rpc("throughput-64-executor", "the same, caller on its executor", WIRE,
        pair(FULL, FULL, client_flags=EXECUTOR), pair(RAW_WIRE, RAW_WIRE), "rps", "1/s", at_least=True),
    rpc("throughput-64-opt-in", "the same, and the handler on the connection", WIRE,
        pair(FULL, FULL, **OPT_IN), pair(RAW_WIRE, RAW_WIRE), "rps", "1/s", 0.9, at_least=True),
    tail("tail-64", "full pair, p99 over p50, 64 in flight", {}, 2.2),
    tail("tail-64-executor", "the same, caller on its executor", {"client_flags": EXECUTOR}, 2),
    tail("tail-64-opt-in", "the same, and the handler on the connection", OPT_IN, 2),
    rpc("p99-half-load", "full call, p99 at half of that throughput", WIRE,
        pair(FULL, FULL, rate="half load"), pair(RAW_WIRE, RAW_WIRE, rate="half load"), "p99_us", "us", 1.5),
    rpc("latency-1", "one call at a time, p50, both sides ours", WIRE,
        pair(FULL, FULL, inflight=1), pair(RAW_WIRE, RAW_WIRE, inflight=1), "p50_us", "us", 1.8),
    rpc("latency-1-executor", "the same, caller on its executor", WIRE,
        pair(FULL, FULL, inflight=1, client_flags=EXECUTOR), pair(RAW_WIRE, RAW_WIRE, inflight=1), "p50_us", "us"),
    rpc("latency-1-opt-in", "the same, and the handler on the connection", WIRE,
        pair(FULL, FULL, inflight=1, **OPT_IN), pair(RAW_WIRE, RAW_WIRE, inflight=1), "p50_us", "us", 1.5),
    rpc("latency-1-caller", "one call at a time, p50, caller ours", WIRE,
        pair(FULL, RAW_WIRE, inflight=1), pair(RAW_WIRE, RAW_WIRE, inflight=1), "p50_us", "us"),
    *payload(STRUCT, "full call with a struct in JSON"),
    *payload(PROTOBUF, "full call with a struct in Protocol Buffers"),
    *payload(BYTES, "full call with 104 raw bytes"),
    *peers(),
    slow_handlers("p50_us", "p50"),
    slow_handlers("p99_us", "p99"),
    publishing("1000", "publish 1,000 at once with confirms, CPU a message", 1000, limit=1.5),
    publishing("1000-single", "the same, one by one from 1,000 tasks", 1000, ("single",)),
    rpc("actor-cpu-64", "call of an actor's method, client CPU, 64 in flight", "the same as a plain call of ours",
        pair(ACTOR, ACTOR), pair(FULL, FULL), CPU, "us", 1.25),
    rpc("actor-server-cpu-64", "the same, server CPU", "the same as a plain call of ours",
        pair(ACTOR, ACTOR), pair(FULL, FULL), "server." + CPU, "us"),
    virtual_actors("activations", "virtual actors made by their first call, 64 callers", "calls of actors that are there",
                   "activations_per_s", "calls_per_s", "1/s"),
    virtual_actors("fail-over", "a virtual actor's node is killed: longest time without an answer, median",
                   "the node is stopped, and hands it over", "failover_ms", "handover_ms", "ms"),
    consuming("handler", "cpu_us_per_message", "us", 2),
    consuming("handler", "rate", "1/s", at_least=True),
    consuming("sequence", "cpu_us_per_message", "us", 1.2),
    consuming("sequence", "rate", "1/s", at_least=True),
    worker("rate", "messages a second of a worker, one by one", "raw", 1, "rate", "1/s", at_least=True),
    worker("cpu", "CPU a message of a worker, one by one", "raw", 1, "cpu_us_per_message", "us"),
    worker("rate-go", "messages a second of a worker, one by one", "go", 1, "rate", "1/s", at_least=True),
    worker("cpu-go", "CPU a message of a worker, one by one", "go", 1, "cpu_us_per_message", "us"),
    worker("batch-rate", "messages a second of a worker, batches of 100", "raw", 100, "rate", "1/s", at_least=True),
    worker("batch-cpu", "CPU a message of a worker, batches of 100", "raw", 100, "cpu_us_per_message", "us"),
    worker("batch-rate-go", "messages a second of a worker, batches of 100", "go", 100, "rate", "1/s", at_least=True),
    worker("batch-cpu-go", "CPU a message of a worker, batches of 100", "go", 100, "cpu_us_per_message", "us"),
    supervision("restart-actor", "restart after a kill, p50, actor", "OTP supervisor",
                "restart", 1, "actor", ("otp", "restart"), "us", 0.8),
    supervision("restart-inline", "the same, started inline", "OTP supervisor",
                "restart", 1, "inline", ("otp", "restart"), "us", 0.5),
    supervision("restart-worker", "restart after a kill, p50, with run()", "OTP supervisor",
                "restart", 1, "worker", ("otp", "restart"), "us", 1.5),
    supervision("kill-1000-actor", "1000 children killed at once, actors", "OTP supervisor",
                "kill-all", 1000, "actor", ("otp", "kill-all"), "1/s", 5, at_least=True),
    supervision("kill-1000-worker", "1000 children killed at once, with run()", "OTP supervisor",
                "kill-all", 1000, "worker", ("otp", "kill-all"), "1/s", 3, at_least=True),
    supervision("start-actor", "start dynamic children of a template, actors", "Elixir DynamicSupervisor",
                "start", many, "actor", ("elixir", "dynamic-start"), "1/s", 2, at_least=True),
    supervision("start-inline", "the same, started inline", "Elixir DynamicSupervisor",
                "start", many, "inline", ("elixir", "dynamic-start"), "1/s", 3, at_least=True),
    supervision("start-worker", "start dynamic children of a template, with run()", "Elixir DynamicSupervisor",
                "start", many, "worker", ("elixir", "dynamic-start"), "1/s", 1.2, at_least=True),
    supervision("memory-actor", "memory of an idle child of a template, actor", "OTP simple_one_for_one",
                "memory", many, "actor", ("otp", "memory"), "B", 1 / 8),
    supervision("memory-worker", "memory of an idle child of a template, with run()", "OTP simple_one_for_one",
                "memory", many, "worker", ("otp", "memory"), "B", 0.6),
    supervision("stop-actor", "stop dynamic children, actors", "OTP simple_one_for_one",
                "stop", many, "actor", ("otp", "stop"), "ms", 0.4),
    supervision("stop-worker", "stop dynamic children, with run()", "OTP simple_one_for_one",
                "stop", many, "worker", ("otp", "stop"), "ms", 0.4),
    supervision("lookup-1", "registry lookups, one reader", "Elixir Registry",
                "lookup", 1, "actor", ("elixir", "lookup"), "1/s", 4, at_least=True),
    supervision("lookup-2", "registry lookups, two readers", "Elixir Registry",
                "lookup", 2, "actor", ("elixir", "lookup"), "1/s", 1.5, at_least=True),
    supervision("keyed-new", "find or start by key, new keys", "Elixir Registry and DynamicSupervisor",
                "keyed-new", many, "actor", ("elixir", "keyed-new"), "1/s"),
    supervision("keyed-present-1", "find or start by key, keys that are there, one task", "Elixir Registry",
                "keyed-present", 1, "actor", ("elixir", "keyed-present"), "1/s"),
    supervision("keyed-present-2", "find or start by key, keys that are there, two tasks", "Elixir Registry",
                "keyed-present", 2, "actor", ("elixir", "keyed-present"), "1/s"),
    supervision("static-stop-actor", "stop 3,000 static children one by one, actors: for each", "OTP supervisor",
                "scale", 3000, "actor", ("otp", "scale"), "us", field="stop_us"),
    supervision("static-stop-worker", "stop 3,000 static children one by one, with run(): for each", "OTP supervisor",
                "scale", 3000, "worker", ("otp", "scale"), "us", field="stop_us"),
    supervision("tree-start", "tree of 21,845 nodes: start", "OTP supervisor",
                "tree", depth, "actor", ("otp", "tree"), "ms", 0.7, field="start"),
    supervision("tree-stop", "tree of 21,845 nodes: stop", "OTP supervisor",
                "tree", depth, "actor", ("otp", "tree"), "ms", 0.5, field="stop"),
    supervision("tree-rebuild", "tree of 21,845 nodes: rebuild", "OTP supervisor",
                "tree", depth, "actor", ("otp", "tree"), "ms", 0.7, field="rebuild"),
    Target("observer-viewer", "a viewer of 10,000 processes, 5,000 calls/s", "one core",
           lambda round_: round_.observer()["viewer"], lambda _: 1.0, "cores", 0.05),
    Target("observer-quiet", "an observer that nobody looks at", "none",
           lambda round_: round_.observer()["quiet"], lambda round_: round_.observer()["none"], "cores"),
]

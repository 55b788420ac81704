"""The programs that are measured, and how to run a pair of them against the broker."""

import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BENCHMARKS = os.path.join(ROOT, "Benchmarks")
SWIFT = os.path.join(BENCHMARKS, ".build", "release")
BUILT = os.path.join(BENCHMARKS, ".build", "baselines")

RPC = os.path.join(SWIFT, "rpc-bench")
SUPERVISION = os.path.join(SWIFT, "supervision-bench")
OBSERVER = os.path.join(SWIFT, "observer-bench")
RAW = os.path.join(BUILT, "raw-bench")
GO = os.path.join(BUILT, "amqp091-bench")
PIKA = os.path.join(BENCHMARKS, "Baselines", "pika", "pika_bench.py")
JARS = [os.path.join("/usr/share/java", name + ".jar") for name in ("amqp-client", "slf4j-api", "slf4j-nop")]

# What Erlang and Elixir need for a million processes; the default is a quarter of that.
PROCESSES = ["+P", "4194304"]


# Schedulers that have nothing to do sleep at once. They would wait in a loop for a while, and that is no work.
NO_BUSY_WAIT = [part for kind in ("+sbwt", "+sbwtdcpu", "+sbwtdio") for part in (kind, "none")]


class Failure(Exception):
    """A program that did not do what it should, in one sentence."""


class Broker:
    """A private broker of our own, alive within `with`."""

    def __enter__(self):
        self.process = subprocess.Popen([RPC, "broker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        if len(line) != 2:
            raise Failure("the private broker did not start; its message is above")
        self.port, self.url = line
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)


class Server:
    """A server process, ready within `with`; `result` is its line of JSON afterwards."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.result = None

    def __enter__(self):
        self.process = subprocess.Popen(self.arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            self.process.kill()
            raise Failure("%s did not become ready" % " ".join(self.arguments))
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.process.stdin.close()
            self.result = parse(self.process.stdout.read(), self.arguments)
            self.process.wait(60)
        else:
            self.process.kill()
            self.process.wait()


def parse(output, arguments):
    lines = output.strip().splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        raise Failure("%s printed no result: %r" % (" ".join(arguments), output[-300:]))


def run(arguments, timeout=600):
    """Runs a program to its end, and returns its line of JSON."""
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=timeout, text=True, cwd=BUILT
        )
    except subprocess.TimeoutExpired:
        raise Failure("%s took longer than %d s" % (" ".join(arguments), timeout))
    if done.returncode != 0:
        raise Failure("%s failed (%d)" % (" ".join(arguments), done.returncode))
    return parse(done.stdout, arguments)


def peer(program, broker):
    """The command of a client that somebody else's library makes."""
    return {
        "go": [GO, "client"],
        # scripts/bench says where RabbitMQ has its libraries.
        "erlang": ["env", "ERL_LIBS=" + os.environ.get("AMQP_CLIENT_LIBRARIES", ""), "erl", "-noshell", *NO_BUSY_WAIT,
                   "-pa", BUILT, "-run", "amqp_client_bench", "main", "-extra"],
        "java": ["java", "-cp", ":".join([BUILT, *JARS]), "AmqpClientBench"],
        "pika": [os.environ.get("PIKA_PYTHON", "python3"), PIKA],
    }[program] + ["--url", broker.url]


def rpc_pair(broker, client, server, **options):
    """Runs one client against one server.

    Each is ("ours", mode) or ("raw", mode), the client also the name of a peer and wire or echo. Returns the client's line with the
    server's in it.
    """
    service = "bench-%s-%s" % (server[0], server[1])

    def command(side, role, **extra):
        program, mode = side
        arguments = {"ours": [RPC, role, "--url", broker.url], "raw": [RAW, role, "--port", broker.port]}.get(program)
        arguments = arguments or peer(program, broker)
        arguments = [*arguments, "--service", service, "--mode", mode]
        for key, value in extra.items():
            if value is not None:
                arguments += ["--" + key, str(value)]
        return arguments

    flags = [["--" + name for name in options.pop(key, ())] for key in ("client_flags", "server_flags")]
    own = {key: options.pop(key, None) for key in ("connections", "channels")}
    inflight = options.get("inflight", 64)
    at_once = max(256, min(65535, inflight))
    if server[0] == "ours":
        serving = command(server, "server", concurrency=at_once)
    else:
        serving = command(server, "server", prefetch=at_once)
    if client[0] == "java":
        # Until its compiler has nothing left to do.
        options["warmup"] = max(5, options["warmup"])
    calling = command(client, "client", **options, **(own if client[0] == "ours" else {}))
    calling, serving = calling + flags[0], serving + flags[1]
    with Server(serving) as process:
        line = run(calling)
    line["server"] = process.result
    return line


def publish(broker, program, inflight, seconds, warmup, flags=()):
    start = [RPC, "publish", "--url", broker.url] if program == "ours" else [RAW, "publish", "--port", broker.port]
    options = ["--inflight", str(inflight), "--seconds", str(seconds), "--warmup", str(warmup)]
    return run(start + options + ["--" + flag for flag in flags])


def actor_times(broker, seconds, rounds):
    return run([RPC, "actor-times", "--url", broker.url, "--service", "bench-virtual", "--seconds", str(seconds),
                "--rounds", str(rounds)])


def consumer(broker, program, messages, batch=1):
    """Fills a queue and has one consumer go through it: worker, handler or sequence of ours, raw or go. Returns the consumer's line."""
    queue = "bench-queue-%s-%d" % (program, batch)
    # Two batches are on their way while two are handled.
    options = ["--service", queue, "--calls", str(messages), "--prefetch", str(max(256, 4 * batch))]
    run([RAW, "fill", "--port", broker.port, *options])
    command = {
        "worker": [RPC, "worker", "--url", broker.url, "--batch", str(batch)],
        "handler": [RPC, "consume", "--url", broker.url, "--kind", "handler"],
        "sequence": [RPC, "consume", "--url", broker.url, "--kind", "sequence"],
        "raw": [RAW, "consume", "--port", broker.port, "--batch", str(batch)],
        "go": [GO, "consume", "--url", broker.url, "--batch", str(batch)],
    }[program]
    return run([*command, *options])


def ours(case, children, kind="actor", timeout=900):
    return run([SUPERVISION, case, "--children", str(children), "--kind", kind], timeout)


def otp(case, children, timeout=900):
    arguments = ["erl", *PROCESSES, "-noshell", "-pa", BUILT, "-run", "otp_bench", "main", case, str(children)]
    return run(arguments, timeout)


def elixir(case, count, timeout=900):
    code = 'ElixirBench.main("%s", %d)' % (case, count)
    return run(["elixir", "--erl", " ".join(PROCESSES), "-pa", BUILT, "-e", code], timeout)


def warn(text):
    print(text, file=sys.stderr, flush=True)

"""Calls with pika, RabbitMQ's client for Python: callbacks on its own event loop, with a timer for each call.

    pika_bench.py --url amqp://... --service bench

Prints one line of JSON.
"""

import argparse
import json
import resource
import sys
import time
import uuid

import pika
from pika.compat import long

TIMEOUT = 30
# So many replies are acknowledged by one acknowledgement.
ACKNOWLEDGED = 16


def cpu():
    """User and system time of this process, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Client:
    def __init__(self, options):
        self.options = options
        self.wire = options.mode == "wire"
        self.body = b'"' + b"x" * (options.body - 2) + b'"'
        # An id is as long as a UUID; its last twelve digits count.
        self.ids = str(uuid.uuid4())[:24]
        self.last_id = 0
        self.pending = {}
        self.taken = 0
        # Of the calls that ended while they are counted.
        self.times = []
        self.errors = 0
        self.counts = False
        self.connection = pika.SelectConnection(
            pika.URLParameters(options.url), on_open_callback=lambda connection: connection.channel(on_open_callback=self.set_up),
            on_open_error_callback=self.fail, on_close_callback=self.fail)
        self.loop = self.connection.ioloop

    def fail(self, _, reason):
        sys.exit("error: %s" % reason)

    def set_up(self, channel):
        """Declares and consumes the reply queue, one step after another."""
        self.channel = channel
        if not self.wire:
            channel.queue_declare("", exclusive=True, auto_delete=True, callback=self.consume)
            return
        name = "pika.replies." + str(uuid.uuid4())
        channel.add_on_return_callback(lambda *_: sys.exit("error: a request came back: nobody serves " + self.options.service))

        def declared(_):
            channel.basic_qos(prefetch_count=256)
            channel.confirm_delivery(self.confirmed, callback=lambda _: channel.queue_declare(
                name, durable=True, auto_delete=True, arguments={"x-expires": 60000}, callback=self.consume))

        channel.exchange_declare("rpc", "headers", durable=True, callback=declared)

    def confirmed(self, frame):
        if isinstance(frame.method, pika.spec.Basic.Nack):
            self.errors += 1

    def consume(self, frame):
        self.replies = frame.method.queue
        self.channel.basic_consume(self.replies, self.take, auto_ack=not self.wire, callback=self.begin)

    def begin(self, _):
        for _ in range(self.options.inflight):
            self.call()
        self.loop.call_later(self.options.warmup, self.begin_counting)

    def begin_counting(self):
        self.errors = 0
        self.counts = True
        self.begun, self.cpu = time.monotonic(), cpu()
        self.loop.call_later(self.options.seconds, self.end)

    def end(self):
        self.cpu, self.seconds = cpu() - self.cpu, time.monotonic() - self.begun
        self.loop.stop()

    def call(self):
        self.last_id += 1
        identifier = self.ids + "%012x" % self.last_id
        exchange, key = "", self.options.service + ".rpcs"
        properties = pika.BasicProperties(correlation_id=identifier, reply_to=self.replies)
        if self.wire:
            exchange, key = "rpc", ""
            properties = pika.BasicProperties(
                content_type="application/json", delivery_mode=1, correlation_id=identifier, message_id=identifier,
                reply_to=self.replies, expiration=str(TIMEOUT * 1000), headers={
                    "destination": self.options.service, "procedure": "echo", "timeout-ms": long(TIMEOUT * 1000)})
        begun = time.monotonic()
        timer = self.loop.call_later(TIMEOUT, lambda: self.ended(self.pending.pop(identifier)[0], False))
        self.pending[identifier] = (begun, timer)
        self.channel.basic_publish(exchange, key, self.body, properties, mandatory=self.wire)

    def take(self, channel, method, properties, body):
        self.taken += 1
        if self.wire and self.taken % ACKNOWLEDGED == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
        begun, timer = self.pending.pop(properties.correlation_id, (None, None))
        if begun is None:
            return
        self.loop.remove_timeout(timer)
        self.ended(begun, not properties.headers and len(body) == len(self.body))

    def ended(self, begun, is_right):
        if self.counts:
            self.times.append(time.monotonic() - begun)
            self.errors += not is_right
        self.call()

    def run(self):
        self.loop.start()
        times = sorted(self.times)
        if not times:
            sys.exit("error: no call has ended")

        def at(part):
            return round(times[int(part * (len(times) - 1))] * 1e6, 1)

        print(json.dumps({
            "program": "pika", "side": "client", "mode": self.options.mode, "calls": len(times),
            "inflight": self.options.inflight, "body": self.options.body, "seconds": round(self.seconds, 3),
            "rps": round(len(times) / self.seconds), "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999),
            "cpu_us_per_call": round(self.cpu * 1e6 / len(times), 3), "errors": self.errors,
        }))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="amqp://guest:guest@127.0.0.1:5672")
    parser.add_argument("--service", default="bench")
    parser.add_argument("--mode", choices=["wire", "echo"], default="wire")
    parser.add_argument("--inflight", type=int, default=64)
    parser.add_argument("--body", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--warmup", type=float, default=1)
    Client(parser.parse_args()).run()


if __name__ == "__main__":
    main()

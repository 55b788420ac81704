"""A caller written from docs/wire-protocol.md alone.

    wire_caller.py SERVICE < commands > results

Each line of standard input is a JSON object: {"kind": "call" | "cast", "procedure": NAME or null, "body": TEXT,
"content_type": TEXT or null, "timeout_ms": NUMBER, "headers": {...}}. For each, one line comes out: {"result": TEXT,
"content_type": ...}, {"error": CODE, "message": ..., "details": ...}, {"unroutable": true}, {"timeout": true} or {"sent": true}.
"""
import json
import os
import sys
import time
import uuid

import pika

EXCHANGE = "rpc"


class Caller:
    def __init__(self, name, url):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        # "Declared passively first, created only when that says 404": a 404 closes the channel it is told on.
        try:
            self.connection.channel().exchange_declare(EXCHANGE, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != 404:
                raise
            self.connection.channel().exchange_declare(EXCHANGE, exchange_type="headers", durable=True)
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.channel.basic_qos(prefetch_count=256)
        self.reply_queue = f"{name}.replies.{uuid.uuid4()}"
        self.channel.queue_declare(
            self.reply_queue, durable=True, auto_delete=True, arguments={"x-expires": 60000}
        )
        self.channel.basic_consume(self.reply_queue, self.on_reply)
        self.waiting = {}

    def on_reply(self, channel, method, properties, body):
        # A reply to nobody who waits is acknowledged and dropped.
        if properties.correlation_id in self.waiting:
            self.waiting[properties.correlation_id] = (properties, body)
        channel.basic_ack(method.delivery_tag)

    def send(self, service, command):
        identity = str(uuid.uuid4())
        headers = dict(command.get("headers") or {})
        headers["destination"] = service
        if command.get("procedure") is not None:
            headers["procedure"] = command["procedure"]
        properties = pika.BasicProperties(
            content_type=command.get("content_type"),
            correlation_id=identity,
            message_id=identity,
            headers=headers,
        )
        if command["kind"] == "call":
            timeout = command["timeout_ms"]
            headers["timeout-ms"] = timeout
            properties.expiration = str(timeout)
            properties.reply_to = self.reply_queue
            properties.delivery_mode = 1
            self.waiting[identity] = None
        else:
            properties.delivery_mode = 2
        try:
            self.channel.basic_publish(
                EXCHANGE, "", command["body"].encode(), properties=properties, mandatory=True
            )
        except pika.exceptions.UnroutableError:
            self.waiting.pop(identity, None)
            return {"unroutable": True}
        if command["kind"] == "cast":
            return {"sent": True}
        return self.wait(identity, time.monotonic() + timeout / 1000)

    def wait(self, identity, deadline):
        while self.waiting[identity] is None:
            left = deadline - time.monotonic()
            if left <= 0:
                del self.waiting[identity]
                return {"timeout": True}
            self.connection.process_data_events(time_limit=left)
        properties, body = self.waiting.pop(identity)
        code = (properties.headers or {}).get("error")
        if code is None:
            return {"result": body.decode(), "content_type": properties.content_type}
        failure = json.loads(body)
        return {"error": code, "message": failure["message"], "details": failure.get("details")}


def main():
    caller = Caller("python", os.environ["AMQP_URL"])
    for line in sys.stdin:
        print(json.dumps(caller.send(sys.argv[1], json.loads(line))), flush=True)
    caller.connection.close()


main()

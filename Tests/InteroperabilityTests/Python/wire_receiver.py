"""A receiver written from docs/wire-protocol.md alone.

    wire_receiver.py SERVICE

Answers `add` (a JSON array of numbers), `upper` (plain text), `fail` (a JSON text), `odd` (fails in a way of its own),
`headers` (the request's properties, as JSON) and `sleep` (seconds) under that name, and prints "ready" when it consumes; then one
line for each cast it has run.
"""
import json
import os
import sys
import time

import pika

EXCHANGE = "rpc"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


class Failure(Exception):
    def __init__(self, code, message, details=None):
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


def essence(content_type):
    return content_type.split(";")[0].strip().lower()


def add(body, properties):
    numbers = json.loads(body)
    if not isinstance(numbers, list):
        raise Failure("undecodable_request", "not an array")
    return JSON, json.dumps(sum(numbers), separators=(",", ":"))


def upper(body, properties):
    return TEXT, body.decode().upper()


def fail(body, properties):
    raise Failure("out_of_stock", json.loads(body), {"left": 2})


def headers(body, properties):
    known = {
        "content_type": properties.content_type,
        "delivery_mode": properties.delivery_mode,
        "expiration": properties.expiration,
        "same_id": properties.message_id == properties.correlation_id,
        "reply_to": properties.reply_to,
        "headers": properties.headers,
    }
    return JSON, json.dumps(known)


def sleep(body, properties):
    time.sleep(json.loads(body))
    return JSON, "null"


PROCEDURES = {
    "add": (JSON, add),
    "upper": (TEXT, upper),
    "fail": (JSON, fail),
    "headers": (JSON, headers),
    "sleep": (JSON, sleep),
}


def answer(procedure, properties, body):
    if procedure not in PROCEDURES:
        raise Failure("unknown_procedure", f"no procedure {procedure}")
    content_type, function = PROCEDURES[procedure]
    if properties.content_type is not None and essence(properties.content_type) != essence(content_type):
        raise Failure("unsupported_content_type", f"{properties.content_type} instead of {content_type}")
    try:
        return function(body, properties)
    except (ValueError, UnicodeDecodeError) as error:
        raise Failure("undecodable_request", str(error))


class Receiver:
    def __init__(self, service, url):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        try:
            self.connection.channel().exchange_declare(EXCHANGE, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != 404:
                raise
            self.connection.channel().exchange_declare(EXCHANGE, exchange_type="headers", durable=True)
        self.channel = self.connection.channel()
        queue = service + ".rpcs"
        self.channel.queue_declare(queue, durable=True)
        self.channel.queue_bind(queue, EXCHANGE, "", {"x-match": "all", "destination": service})
        self.channel.basic_qos(prefetch_count=10)
        self.channel.basic_consume(queue, self.on_request)

    def on_request(self, channel, method, properties, body):
        all_headers = properties.headers or {}
        procedure = all_headers.get("procedure")
        if procedure == "odd":
            # A failure as a server might send it that has not read the page to its end.
            return self.reply(method, properties, {"error": "odd"}, "text/plain", b"something odd")
        try:
            content_type, result = answer(procedure, properties, body)
            self.reply(method, properties, None, content_type, result.encode())
            if not properties.reply_to:
                print("ran " + str(procedure), flush=True)
        except Failure as failure:
            if not properties.reply_to:
                return channel.basic_reject(method.delivery_tag, requeue=False)
            said = {"code": failure.code, "message": failure.message}
            if failure.details is not None:
                said["details"] = failure.details
            self.reply(method, properties, {"error": failure.code}, JSON, json.dumps(said).encode())

    def reply(self, method, properties, headers, content_type, body):
        # To the default exchange, before the acknowledgement, on the channel that the request came from.
        if properties.reply_to:
            self.channel.basic_publish(
                "",
                properties.reply_to,
                body,
                pika.BasicProperties(
                    content_type=content_type,
                    delivery_mode=1,
                    correlation_id=properties.correlation_id,
                    headers=headers,
                ),
            )
        self.channel.basic_ack(method.delivery_tag)


receiver = Receiver(sys.argv[1], os.environ["AMQP_URL"])
print("ready", flush=True)
receiver.channel.start_consuming()

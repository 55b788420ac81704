"""A service with one actor, "teller", as docs/wire-protocol.md has it.

    actor_server.py SERVICE
"""
import json
import os
import sys

import pika

service = sys.argv[1]
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.exchange_declare("rpc", exchange_type="headers", durable=True)
channel.queue_declare(service + ".rpcs", durable=True)
channel.queue_bind(service + ".rpcs", "rpc", "", {"x-match": "all", "destination": service})
channel.basic_qos(prefetch_count=10)


def failure(code, message, details=None):
    return {"error": code}, {"code": code, "message": message, "details": details}


def answer(headers, body):
    if headers.get("actor") != "teller":
        return failure("no_process", "no actor")
    method, arguments = headers.get("procedure"), json.loads(body)
    if method == "Teller.greet(name:)":
        return {}, "hej, " + arguments[0]
    if method == "Teller.transfer(_:note:)":
        missing = arguments[0]["cents"] - 100
        if missing > 0:
            return failure("thrown", "Insufficient", {"type": "ActorContracts.Insufficient", "value": {"missing": missing}})
        return {}, arguments[0]["cents"]
    return failure("unknown_procedure", "no method " + str(method))


def on_request(channel, method, properties, body):
    headers, result = answer(properties.headers or {}, body)
    if properties.reply_to:
        channel.basic_publish(
            "",
            properties.reply_to,
            json.dumps(result).encode(),
            pika.BasicProperties(
                content_type="application/json",
                delivery_mode=1,
                correlation_id=properties.correlation_id,
                headers=headers,
            ),
        )
    channel.basic_ack(method.delivery_tag)


channel.basic_consume(service + ".rpcs", on_request)
print("ready", flush=True)
channel.start_consuming()

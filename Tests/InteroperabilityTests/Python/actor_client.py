"""Calls actors as docs/wire-protocol.md says, without a Swift runtime.

    actor_client.py SERVICE ACTOR < commands > results

Each line of standard input is a JSON object: {"method": NAME, "arguments": [...]}. For each, one line comes out: {"result": ...},
{"error": CODE, "details": ...} or {"unroutable": true}. With "key", "kind" and "shards" instead of the actor's name it is a virtual actor's.
"""
import json
import os
import sys
import uuid

import pika

MASK = (1 << 64) - 1


def stable_hash(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    value ^= value >> 33
    value = (value * 0xFF51AFD7ED558CCD) & MASK
    value ^= value >> 33
    value = (value * 0xC4CEB9FE1A85EC53) & MASK
    return value ^ (value >> 33)


class Client:
    def __init__(self, url):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.replies = "python.replies." + str(uuid.uuid4())
        self.channel.queue_declare(self.replies, durable=True, auto_delete=True, arguments={"x-expires": 60000})
        self.channel.exchange_declare("rpc.bounced", exchange_type="headers", durable=True)
        self.channel.queue_bind(self.replies, "rpc.bounced", "", {"x-match": "all", "caller": self.replies})
        self.channel.basic_consume(self.replies, self.on_reply)
        self.answers = {}

    def on_reply(self, channel, method, properties, body):
        self.answers[properties.correlation_id] = (properties, body)
        channel.basic_ack(method.delivery_tag)

    def call(self, service, actor, command):
        identity = str(uuid.uuid4())
        headers = {"procedure": command["method"], "actor": actor, "caller": self.replies, "timeout-ms": 30000}
        exchange, key = "rpc", ""
        if "key" in command:
            number = stable_hash(command["key"]) % command["shards"]
            exchange, key = "", f"{service}/{command['kind']}#{number}/{command['shards']}"
            headers["actor"] = f"{command['kind']}/{command['key']}"
        else:
            headers["destination"] = service
        properties = pika.BasicProperties(
            content_type="application/json",
            correlation_id=identity,
            message_id=identity,
            reply_to=self.replies,
            expiration="30000",
            delivery_mode=1,
            headers=headers,
        )
        try:
            self.channel.basic_publish(exchange, key, json.dumps(command["arguments"]).encode(), properties, mandatory=True)
        except pika.exceptions.UnroutableError:
            return {"unroutable": True}
        while identity not in self.answers:
            self.connection.process_data_events(time_limit=30)
        properties, body = self.answers.pop(identity)
        code = (properties.headers or {}).get("error")
        if code is None:
            return {"result": json.loads(body)}
        return {"error": code, "details": json.loads(body).get("details")}


client = Client(os.environ["AMQP_URL"])
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(client.call(sys.argv[1], sys.argv[2], json.loads(line))), flush=True)

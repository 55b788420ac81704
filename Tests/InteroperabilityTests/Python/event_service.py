"""Takes part in events and queues of workers as docs/wire-protocol.md says.

    event_service.py SERVICE EVENT < commands > results

Prints "ready" when it is subscribed. {"publish": NAME, "body": TEXT} publishes an event, {"send": QUEUE, "body": TEXT, "headers": {...}} a message to
a queue; each is answered by "ok" when the broker has confirmed it. Each event that comes is a line {"event": TYPE, "key": ROUTING_KEY, "body": TEXT,
"id": MESSAGE_ID}. {"take": QUEUE} answers with the properties and the body of a message of that queue, or null.
"""
import json
import os
import sys
import threading
import time
import uuid

import pika


def say(value):
    print(value if isinstance(value, str) else json.dumps(value), flush=True)


def main():
    service, event = sys.argv[1:]
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare("events", exchange_type="topic", durable=True)
    queue = f"{service}.events.{event}"
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, "events", event)

    def on_event(channel, method, properties, body):
        say({"event": properties.type, "key": method.routing_key, "body": body.decode(), "id": properties.message_id})
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, on_event)

    def properties(**others):
        return pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            message_id=str(uuid.uuid4()),
            timestamp=int(time.time()),
            **others,
        )

    def obey(command):
        if "publish" in command:
            name = command["publish"]
            channel.basic_publish("events", name, command["body"].encode(), properties(type=name))
            say("ok")
        elif "send" in command:
            headers = command.get("headers")
            channel.basic_publish("", command["send"], command["body"].encode(), properties(headers=headers), mandatory=True)
            say("ok")
        else:
            method, found, body = channel.basic_get(command["take"], auto_ack=True)
            say({"headers": {k: str(v) for k, v in found.headers.items()}, "body": body.decode()} if method else "null")

    def read():
        for line in sys.stdin:
            command = json.loads(line)
            connection.add_callback_threadsafe(lambda command=command: obey(command))

    threading.Thread(target=read, daemon=True).start()
    say("ready")
    channel.start_consuming()


main()

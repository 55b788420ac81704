"""The client of RabbitMQ's tutorial six (RPC), as its readers have it: it asks `rpc_queue` for fib(n) and prints the answer.

It knows nothing of docs/wire-protocol.md. Differs from the tutorial in what a test needs: the broker's address comes from the
environment variable AMQP_URL, the numbers from the command line, and it gives up after 30 seconds.
"""
import os
import sys
import uuid

import pika


class FibonacciClient:
    def __init__(self):
        self.connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
        self.channel = self.connection.channel()
        self.callback_queue = self.channel.queue_declare(queue="", exclusive=True).method.queue
        self.channel.basic_consume(
            queue=self.callback_queue, on_message_callback=self.on_response, auto_ack=True
        )
        self.response = None
        self.correlation_id = None

    def on_response(self, channel, method, properties, body):
        if properties.correlation_id == self.correlation_id:
            self.response = body

    def call(self, n):
        self.response = None
        self.correlation_id = str(uuid.uuid4())
        self.channel.basic_publish(
            exchange="",
            routing_key="rpc_queue",
            properties=pika.BasicProperties(
                reply_to=self.callback_queue, correlation_id=self.correlation_id
            ),
            body=str(n),
        )
        self.connection.process_data_events(time_limit=30)
        return int(self.response)


client = FibonacciClient()
for argument in sys.argv[1:]:
    print(client.call(int(argument)), flush=True)
client.connection.close()

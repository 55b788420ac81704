"""The server of RabbitMQ's tutorial six (RPC), as its readers have it: queue `rpc_queue`, plain text, Fibonacci numbers.

It knows nothing of docs/wire-protocol.md. Differs from the tutorial in what a test needs: the broker's address comes from the
environment variable AMQP_URL, and it prints "ready" when it consumes.
"""
import os

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.queue_declare(queue="rpc_queue")


def fib(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def on_request(channel, method, properties, body):
    response = fib(int(body))
    channel.basic_publish(
        exchange="",
        routing_key=properties.reply_to,
        properties=pika.BasicProperties(correlation_id=properties.correlation_id),
        body=str(response),
    )
    channel.basic_ack(delivery_tag=method.delivery_tag)


channel.basic_qos(prefetch_count=1)
channel.basic_consume(queue="rpc_queue", on_message_callback=on_request)
print("ready", flush=True)
channel.start_consuming()

// The same consumer with amqp091-go: each message is acknowledged by itself, or with -batch so many by one acknowledgement.
package main

import (
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func runConsume(o options) {
	connection, err := amqp.Dial(o.url)
	check(err, "connecting")
	channel, err := connection.Channel()
	check(err, "opening a channel")
	check(channel.Qos(o.prefetch, 0, false), "setting the prefetch")
	deliveries, err := channel.Consume(o.service, "", false, false, false, false, nil)
	check(err, "consuming the queue")

	var begun time.Time
	var before float64
	count := 0
	for delivery := range deliveries {
		if count == 0 {
			begun, before = time.Now(), cpu()
		}
		count++
		if o.batch <= 1 {
			check(delivery.Ack(false), "acknowledging")
		} else if count%o.batch == 0 || count == o.calls {
			check(delivery.Ack(true), "acknowledging")
		}
		if count == o.calls {
			break
		}
	}
	used, seconds := cpu()-before, time.Since(begun).Seconds()
	fmt.Printf("{\"program\":\"amqp091\",\"side\":\"consume\",\"messages\":%d,\"seconds\":%.3f,\"rate\":%.0f,\"cpu_us_per_message\":%.3f}\n",
		count, seconds, float64(count)/seconds, used/float64(count))
	check(connection.Close(), "closing")
}

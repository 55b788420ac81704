// The same consumer with amqp091-go: each message is acknowledged by itself, or with -batch so many by one acknowledgement.
package main

import (
	"flag"
	"fmt"
	"os"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %s: %v\n", what, err)
		os.Exit(1)
	}
}

// User and system time of this process, in microseconds.
func cpu() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage), "reading the CPU time")
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e3
}

func main() {
	url := flag.String("url", "amqp://guest:guest@127.0.0.1:5672", "the broker")
	queue := flag.String("service", "bench", "the queue")
	messages := flag.Int("calls", 100000, "how many messages to consume")
	prefetch := flag.Int("prefetch", 256, "deliveries before one is acknowledged")
	batch := flag.Int("batch", 1, "how many messages an acknowledgement is for")
	flag.Parse()

	connection, err := amqp.Dial(*url)
	check(err, "connecting")
	channel, err := connection.Channel()
	check(err, "opening a channel")
	check(channel.Qos(*prefetch, 0, false), "setting the prefetch")
	deliveries, err := channel.Consume(*queue, "", false, false, false, false, nil)
	check(err, "consuming the queue")

	var begun time.Time
	var before float64
	count := 0
	for delivery := range deliveries {
		if count == 0 {
			begun, before = time.Now(), cpu()
		}
		count++
		if *batch <= 1 {
			check(delivery.Ack(false), "acknowledging")
		} else if count%*batch == 0 || count == *messages {
			check(delivery.Ack(true), "acknowledging")
		}
		if count == *messages {
			break
		}
	}
	used, seconds := cpu()-before, time.Since(begun).Seconds()
	fmt.Printf("{\"program\":\"amqp091\",\"side\":\"consume\",\"messages\":%d,\"seconds\":%.3f,\"rate\":%.0f,\"cpu_us_per_message\":%.3f}\n",
		count, seconds, float64(count)/seconds, used/float64(count))
	check(connection.Close(), "closing")
}

// What other users of Go write with amqp091-go: a consumer, and a client that makes calls.
package main

import (
	"flag"
	"fmt"
	"os"
	"syscall"
)

type options struct {
	url      string
	service  string
	mode     string
	inflight int
	body     int
	seconds  float64
	warmup   float64
	calls    int
	prefetch int
	batch    int
}

func check(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "error: "+format+"\n", arguments...)
	os.Exit(1)
}

// User and system time of this process, in microseconds.
func cpu() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage), "reading the CPU time")
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e3
}

func main() {
	var o options
	flags := flag.NewFlagSet("amqp091-bench client|consume", flag.ExitOnError)
	flags.StringVar(&o.url, "url", "amqp://guest:guest@127.0.0.1:5672", "the broker")
	flags.StringVar(&o.service, "service", "bench", "client: the service that is called; consume: the queue")
	flags.StringVar(&o.mode, "mode", "wire", "client: wire for all that our calls do on the wire, echo for nothing but the bodies")
	flags.IntVar(&o.inflight, "inflight", 64, "client: calls that wait at once")
	flags.IntVar(&o.body, "body", 64, "client: size of the body, a JSON string")
	flags.Float64Var(&o.seconds, "seconds", 3, "client: how long to measure")
	flags.Float64Var(&o.warmup, "warmup", 1, "client: how long to run before that")
	flags.IntVar(&o.calls, "calls", 100000, "consume: how many messages")
	flags.IntVar(&o.prefetch, "prefetch", 256, "consume: deliveries before one is acknowledged")
	flags.IntVar(&o.batch, "batch", 1, "consume: how many messages an acknowledgement is for")
	if len(os.Args) < 2 {
		flags.Usage()
		os.Exit(64)
	}
	check(flags.Parse(os.Args[2:]), "reading the options")
	switch os.Args[1] {
	case "client":
		if o.inflight < 1 || o.body < 2 || (o.mode != "wire" && o.mode != "echo") {
			fail("--inflight is at least 1, --body at least 2, --mode wire or echo")
		}
		runClient(o)
	case "consume":
		runConsume(o)
	default:
		flags.Usage()
		os.Exit(64)
	}
}

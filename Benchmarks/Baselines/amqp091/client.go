// Calls with amqp091-go: a goroutine for each call in flight, one connection and one channel for all of them, a context with a
// deadline for each call.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	timeout = 30 * time.Second
	// So many replies are acknowledged by one acknowledgement.
	acknowledged = 16
)

type client struct {
	o        options
	channel  *amqp.Channel
	replies  string
	body     []byte
	ids      string
	lastID   uint64
	lock     sync.Mutex
	pending  map[string]chan amqp.Delivery
	isOver   atomic.Bool
	failures atomic.Int64
	// Of the calls that ended while they are counted.
	times    [][]int64
	counting atomic.Int64
}

func runClient(o options) {
	connection, err := amqp.Dial(o.url)
	check(err, "connecting")
	channel, err := connection.Channel()
	check(err, "opening a channel")
	c := &client{o: o, channel: channel, pending: map[string]chan amqp.Delivery{}, times: make([][]int64, o.inflight)}
	c.body = []byte(`"` + strings.Repeat("x", o.body-2) + `"`)
	random := make([]byte, 14)
	_, err = rand.Read(random)
	check(err, "making an id")
	text := hex.EncodeToString(random)
	// An id is as long as a UUID; its last twelve digits count.
	c.ids = text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-"
	go c.take(c.setUp(text))

	var workers sync.WaitGroup
	for number := 0; number < o.inflight; number++ {
		workers.Add(1)
		go func(number int) {
			defer workers.Done()
			c.work(number)
		}(number)
	}
	time.Sleep(duration(o.warmup))
	begun, before := time.Now(), cpu()
	c.failures.Store(0)
	c.counting.Store(1)
	time.Sleep(duration(o.seconds))
	c.counting.Store(2)
	used, seconds := cpu()-before, time.Since(begun).Seconds()
	c.isOver.Store(true)
	workers.Wait()

	var all []int64
	for _, times := range c.times {
		all = append(all, times...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	if len(all) == 0 {
		fail("no call has ended")
	}
	at := func(part float64) float64 { return float64(all[int(part*float64(len(all)-1))]) / 1e3 }
	fmt.Printf("{\"program\":\"go\",\"side\":\"client\",\"mode\":\"%s\",\"calls\":%d,\"inflight\":%d,\"body\":%d,\"seconds\":%.3f,"+
		"\"rps\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"cpu_us_per_call\":%.3f,\"errors\":%d}\n",
		o.mode, len(all), o.inflight, o.body, seconds, float64(len(all))/seconds, at(0.5), at(0.99), at(0.999),
		used/float64(len(all)), c.failures.Load())
	check(connection.Close(), "closing")
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// Declares and consumes the reply queue.
func (c *client) setUp(random string) <-chan amqp.Delivery {
	channel := c.channel
	if c.o.mode == "echo" {
		queue, err := channel.QueueDeclare("", false, true, true, false, nil)
		check(err, "declaring the reply queue")
		c.replies = queue.Name
		deliveries, err := channel.Consume(queue.Name, "", true, false, false, false, nil)
		check(err, "consuming the reply queue")
		return deliveries
	}
	check(channel.ExchangeDeclare("rpc", "headers", true, false, false, false, nil), "declaring the exchange")
	queue, err := channel.QueueDeclare("go.replies."+random, true, true, false, false, amqp.Table{"x-expires": int32(60000)})
	check(err, "declaring the reply queue")
	c.replies = queue.Name
	check(channel.Qos(256, 0, false), "setting the prefetch")
	check(channel.Confirm(false), "asking for confirms")
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 1024))
	returns := channel.NotifyReturn(make(chan amqp.Return, 1024))
	go func() {
		for confirm := range confirms {
			if !confirm.Ack {
				c.failures.Add(1)
			}
		}
	}()
	go func() {
		for range returns {
			fail("a request came back: nobody serves %q", c.o.service)
		}
	}()
	deliveries, err := channel.Consume(queue.Name, "", false, false, false, false, nil)
	check(err, "consuming the reply queue")
	return deliveries
}

// Hands each reply to the call that waits for it.
func (c *client) take(deliveries <-chan amqp.Delivery) {
	count := 0
	for delivery := range deliveries {
		c.lock.Lock()
		waiting := c.pending[delivery.CorrelationId]
		delete(c.pending, delivery.CorrelationId)
		c.lock.Unlock()
		if waiting != nil {
			waiting <- delivery
		}
		count++
		if c.o.mode == "wire" && count%acknowledged == 0 {
			check(delivery.Ack(true), "acknowledging")
		}
	}
}

func (c *client) work(number int) {
	for !c.isOver.Load() {
		begun := time.Now()
		isRight := c.call()
		took := time.Since(begun)
		if c.counting.Load() == 1 {
			c.times[number] = append(c.times[number], int64(took))
			if !isRight {
				c.failures.Add(1)
			}
		}
	}
}

func (c *client) call() bool {
	deadline, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	reply := make(chan amqp.Delivery, 1)
	c.lock.Lock()
	c.lastID++
	digits := strconv.FormatUint(c.lastID, 16)
	id := c.ids + "000000000000"[len(digits):] + digits
	c.pending[id] = reply
	c.lock.Unlock()
	message := amqp.Publishing{CorrelationId: id, ReplyTo: c.replies, Body: c.body}
	exchange, key := "", c.o.service+".rpcs"
	if c.o.mode == "wire" {
		exchange, key = "rpc", ""
		message.Headers = amqp.Table{"destination": c.o.service, "procedure": "echo", "timeout-ms": timeout.Milliseconds()}
		message.ContentType = "application/json"
		message.DeliveryMode = amqp.Transient
		message.MessageId = id
		message.Expiration = strconv.FormatInt(timeout.Milliseconds(), 10)
	}
	// Not the call's context: the library would keep a child of it until the confirm comes.
	check(c.channel.PublishWithContext(context.Background(), exchange, key, c.o.mode == "wire", false, message), "publishing")
	select {
	case delivery := <-reply:
		return len(delivery.Headers) == 0 && len(delivery.Body) == len(c.body)
	case <-deadline.Done():
		c.lock.Lock()
		delete(c.pending, id)
		c.lock.Unlock()
		return false
	}
}

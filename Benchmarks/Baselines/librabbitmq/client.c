// The pipelined client: a poll loop that keeps a number of calls in flight.
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "measure.h"
#include "raw.h"

// A call's id on the wire is as long as a UUID; its last digits are the slot.
#define ID_LENGTH 36

typedef struct {
  const options *o;
  amqp_connection_state_t connection;
  char queue[256];
  char request_queue[300];
  amqp_bytes_t body;
  amqp_table_entry_t headers[3];
  amqp_basic_properties_t properties;
  // By slot: when its call began, and whether one is under way.
  uint64_t *began;
  bool *busy;
  int *free_slots;
  int free_count;
  uint64_t finished;
  uint64_t errors;
  uint64_t last_tag;
  bool has_unacked;
  histogram latencies;
} client;

static void set_up(client *c) {
  const options *o = c->o;
  amqp_connection_state_t connection = c->connection = open_connection(o);
  if (o->mode == MODE_WIRE) {
    static char names[] = "x-expires";
    amqp_table_entry_t expires = {
        .key = amqp_cstring_bytes(names), .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = 60000}};
    amqp_table_t arguments = {1, &expires};
    amqp_exchange_declare(connection, 1, amqp_cstring_bytes("rpc"), amqp_cstring_bytes("headers"), 0, 1, 0, 0,
                          amqp_empty_table);
    check_reply(connection, "declaring the exchange");
    snprintf(c->queue, sizeof c->queue, "raw.replies.%016llx%016llx", (unsigned long long)now_ns(),
             (unsigned long long)random());
    amqp_queue_declare(connection, 1, amqp_cstring_bytes(c->queue), 0, 1, 0, 1, arguments);
    check_reply(connection, "declaring the reply queue");
    amqp_basic_qos(connection, 1, 0, 256, 0);
    check_reply(connection, "setting the prefetch");
    amqp_confirm_select(connection, 1);
    check_reply(connection, "asking for confirms");
  } else {
    amqp_queue_declare_ok_t *ok = amqp_queue_declare(connection, 1, amqp_empty_bytes, 0, 0, 1, 1, amqp_empty_table);
    check_reply(connection, "declaring the reply queue");
    snprintf(c->queue, sizeof c->queue, "%.*s", (int)ok->queue.len, (char *)ok->queue.bytes);
  }
  amqp_basic_consume(connection, 1, amqp_cstring_bytes(c->queue), amqp_empty_bytes, 0, o->mode == MODE_ECHO, 0,
                     amqp_empty_table);
  check_reply(connection, "consuming the reply queue");

  snprintf(c->request_queue, sizeof c->request_queue, "%s.rpcs", o->service);
  c->body = amqp_bytes_malloc((size_t)o->body);
  memset(c->body.bytes, 'x', c->body.len);
  ((char *)c->body.bytes)[0] = ((char *)c->body.bytes)[o->body - 1] = '"';

  amqp_basic_properties_t *p = &c->properties;
  p->reply_to = amqp_cstring_bytes(c->queue);
  p->_flags = AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG;
  if (o->mode == MODE_WIRE) {
    c->headers[0] = (amqp_table_entry_t){
        .key = amqp_cstring_bytes("destination"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(o->service)}};
    c->headers[1] = (amqp_table_entry_t){
        .key = amqp_cstring_bytes("procedure"),
        .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("echo")}};
    c->headers[2] = (amqp_table_entry_t){
        .key = amqp_cstring_bytes("timeout-ms"), .value = {.kind = AMQP_FIELD_KIND_I64, .value.i64 = 30000}};
    p->headers = (amqp_table_t){3, c->headers};
    p->content_type = amqp_cstring_bytes("application/json");
    p->delivery_mode = 1;
    p->expiration = amqp_cstring_bytes("30000");
    p->_flags |= AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                 AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG;
  }

  c->began = calloc((size_t)o->inflight, sizeof *c->began);
  c->busy = calloc((size_t)o->inflight, sizeof *c->busy);
  c->free_slots = calloc((size_t)o->inflight, sizeof *c->free_slots);
  for (int i = 0; i < o->inflight; i++) c->free_slots[c->free_count++] = o->inflight - 1 - i;
}

static void begin_call(client *c, uint64_t at) {
  static const char digits[] = "0123456789abcdef";
  char id[] = "0f1e2d3c-4b5a-4978-8695-a4b300000000";
  int slot = c->free_slots[--c->free_count];
  for (int i = ID_LENGTH - 1, rest = slot; i >= ID_LENGTH - 8; i--, rest >>= 4) id[i] = digits[rest & 15];
  amqp_bytes_t bytes = {ID_LENGTH, id};
  c->properties.correlation_id = bytes;
  c->properties.message_id = bytes;
  c->began[slot] = at;
  c->busy[slot] = true;
  bool wire = c->o->mode == MODE_WIRE;
  check(amqp_basic_publish(c->connection, 1, amqp_cstring_bytes(wire ? "rpc" : ""),
                           wire ? amqp_empty_bytes : amqp_cstring_bytes(c->request_queue), wire, 0, &c->properties,
                           c->body),
        "publishing");
}

static void finish_call(client *c, const amqp_basic_properties_t *p) {
  uint32_t slot = 0;
  bool known = p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG && p->correlation_id.len == ID_LENGTH;
  for (int i = ID_LENGTH - 8; known && i < ID_LENGTH; i++) {
    char digit = ((char *)p->correlation_id.bytes)[i];
    slot = slot << 4 | (uint32_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
  }
  if (!known || slot >= (uint32_t)c->o->inflight || !c->busy[slot]) {
    c->errors++;
    return;
  }
  c->busy[slot] = false;
  c->free_slots[c->free_count++] = (int)slot;
  c->finished++;
  histogram_record(&c->latencies, now_ns() - c->began[slot]);
  // A reply that carries a failure.
  if (p->_flags & AMQP_BASIC_HEADERS_FLAG && p->headers.num_entries > 0) c->errors++;
}

static void acknowledge(client *c) {
  if (!c->has_unacked) return;
  c->has_unacked = false;
  check(amqp_basic_ack(c->connection, 1, c->last_tag, 1), "acknowledging");
}

// Takes what the broker says, until a reply is complete or `timeout` is over. False when it is over.
static bool take(client *c, struct timeval *timeout) {
  static uint64_t missing = 0;
  static bool is_return = false;
  for (;;) {
    amqp_frame_t frame;
    amqp_connection_state_t connection = c->connection;
    // Replies are acknowledged when all that one read brought is looked at.
    if (!amqp_data_in_buffer(connection) && !amqp_frames_enqueued(connection)) acknowledge(c);
    int status = amqp_simple_wait_frame_noblock(connection, &frame, timeout);
    if (status == AMQP_STATUS_TIMEOUT) return false;
    check(status, "reading");
    bool complete = false;
    switch (frame.frame_type) {
      case AMQP_FRAME_METHOD:
        switch (frame.payload.method.id) {
          case AMQP_BASIC_DELIVER_METHOD: {
            amqp_basic_deliver_t *deliver = frame.payload.method.decoded;
            c->last_tag = deliver->delivery_tag;
            is_return = false;
            break;
          }
          case AMQP_BASIC_ACK_METHOD: break;
          case AMQP_BASIC_RETURN_METHOD: is_return = true; break;
          default:
            fprintf(stderr, "error: the broker sent method 0x%x\n", frame.payload.method.id);
            exit(1);
        }
        break;
      case AMQP_FRAME_HEADER:
        missing = frame.payload.properties.body_size;
        if (is_return) {
          fprintf(stderr, "error: a request came back: nobody serves \"%s\"\n", c->o->service);
          exit(1);
        }
        finish_call(c, frame.payload.properties.decoded);
        complete = missing == 0;
        break;
      case AMQP_FRAME_BODY:
        missing -= frame.payload.body_fragment.len;
        complete = missing == 0;
        break;
      default: break;
    }
    amqp_maybe_release_buffers_on_channel(connection, 1);
    if (complete) {
      if (c->o->mode == MODE_WIRE) c->has_unacked = true;
      return true;
    }
  }
}

// Waits until there is something to read, or that time has come. The library's own waiting counts in milliseconds, and would
// spin through the last one.
static bool readable_before(client *c, uint64_t then) {
  if (amqp_data_in_buffer(c->connection) || amqp_frames_enqueued(c->connection)) return true;
  acknowledge(c);
  uint64_t now = now_ns(), left = then > now ? then - now : 0;
  struct pollfd socket = {.fd = amqp_get_sockfd(c->connection), .events = POLLIN};
#ifdef __linux__
  struct timespec timeout = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
  return ppoll(&socket, 1, &timeout, NULL) > 0;
#else
  return poll(&socket, 1, (int)(left / 1000000u)) > 0;
#endif
}

// Runs until the time is over or so many calls are finished. Calls under way stay under way.
static void run_for(client *c, double seconds, uint64_t calls) {
  uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), before = c->finished;
  if (c->o->rate <= 0) {
    while (calls ? c->finished - before < calls : now_ns() < end) {
      while (c->free_count > 0) begin_call(c, now_ns());
      take(c, NULL);
    }
    return;
  }
  double interval = 1e9 / c->o->rate;
  // Whether the loop had nothing to do but wait for the next call's time: what it is late then is the timer's.
  bool waited = false;
  for (uint64_t n = 0;;) {
    uint64_t now = now_ns();
    if (calls ? c->finished - before >= calls : now >= end) return;
    uint64_t due = start + (uint64_t)((double)n * interval);
    if (due <= now && c->free_count > 0) {
      begin_call(c, waited ? now : due);
      n++;
      waited = false;
      continue;
    }
    struct timeval none = {0, 0};
    waited = !readable_before(c, due > now ? due : end);
    if (!waited) take(c, &none);
  }
}

int run_client(const options *o) {
  static client c;
  c.o = o;
  srandom((unsigned)now_ns());
#ifdef PR_SET_TIMERSLACK
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
#endif
  set_up(&c);
  run_for(&c, o->warmup, o->calls ? (o->calls + 9) / 10 : 0);
  memset(&c.latencies, 0, sizeof c.latencies);
  c.errors = 0;
  uint64_t before = c.finished, start = now_ns();
  double cpu = cpu_us();
  run_for(&c, o->seconds, o->calls);
  cpu = cpu_us() - cpu;
  double seconds = (double)(now_ns() - start) / 1e9;
  uint64_t calls = c.finished - before;
  while (c.free_count < o->inflight) {
    struct timeval patience = {2, 0};
    if (!take(&c, &patience)) break;
  }
  acknowledge(&c);
  printf("{\"program\":\"raw\",\"side\":\"client\",\"mode\":\"%s\",\"calls\":%llu,\"inflight\":%d,\"body\":%d,"
         "\"seconds\":%.3f,\"rps\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"cpu_us_per_call\":%.3f,"
         "\"max_rss_kb\":%ld,\"errors\":%llu}\n",
         o->mode == MODE_WIRE ? "wire" : "echo", (unsigned long long)calls, o->inflight, o->body, seconds,
         (double)calls / seconds, histogram_at(&c.latencies, 0.5) / 1e3, histogram_at(&c.latencies, 0.99) / 1e3,
         histogram_at(&c.latencies, 0.999) / 1e3, calls ? cpu / (double)calls : 0, max_rss_kb(),
         (unsigned long long)c.errors);
  amqp_connection_close(c.connection, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(c.connection);
  return 0;
}

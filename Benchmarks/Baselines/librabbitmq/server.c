// The echo server: answers each request with its own body.
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "measure.h"
#include "raw.h"

static void set_up(const options *o, amqp_connection_state_t connection) {
  char queue[300];
  snprintf(queue, sizeof queue, "%s.rpcs", o->service);
  amqp_exchange_declare(connection, 1, amqp_cstring_bytes("rpc"), amqp_cstring_bytes("headers"), 0, 1, 0, 0,
                        amqp_empty_table);
  check_reply(connection, "declaring the exchange");
  amqp_queue_declare(connection, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, amqp_empty_table);
  check_reply(connection, "declaring the queue");
  amqp_table_entry_t entries[] = {
      {.key = amqp_cstring_bytes("x-match"),
       .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("all")}},
      {.key = amqp_cstring_bytes("destination"),
       .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(o->service)}},
  };
  amqp_queue_bind(connection, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes("rpc"), amqp_empty_bytes,
                  (amqp_table_t){2, entries});
  check_reply(connection, "binding the queue");
  amqp_queue_purge(connection, 1, amqp_cstring_bytes(queue));
  check_reply(connection, "emptying the queue");
  if (o->mode == MODE_WIRE) {
    amqp_basic_qos(connection, 1, 0, (uint16_t)o->prefetch, 0);
    check_reply(connection, "setting the prefetch");
  }
  amqp_basic_consume(connection, 1, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, o->mode == MODE_ECHO, 0,
                     amqp_empty_table);
  check_reply(connection, "consuming the queue");
}

// Whether standard input has ended: the one who started us wants us to stop.
static bool is_over(void) {
  char bytes[64];
  struct pollfd in = {.fd = 0, .events = POLLIN};
  return poll(&in, 1, 0) > 0 && read(0, bytes, sizeof bytes) <= 0;
}

typedef struct {
  uint64_t tag, missing;
  char reply_to[256], correlation[256], content_type[256];
  size_t reply_to_length, correlation_length, content_type_length;
  char *body;
  size_t body_length, body_capacity;
} request;

static void read_header(request *r, uint64_t size, const amqp_basic_properties_t *p) {
  r->reply_to_length = r->correlation_length = r->content_type_length = 0;
  if (p->_flags & AMQP_BASIC_REPLY_TO_FLAG && p->reply_to.len < sizeof r->reply_to) {
    r->reply_to_length = p->reply_to.len;
    memcpy(r->reply_to, p->reply_to.bytes, p->reply_to.len);
  }
  if (p->_flags & AMQP_BASIC_CORRELATION_ID_FLAG && p->correlation_id.len < sizeof r->correlation) {
    r->correlation_length = p->correlation_id.len;
    memcpy(r->correlation, p->correlation_id.bytes, p->correlation_id.len);
  }
  if (p->_flags & AMQP_BASIC_CONTENT_TYPE_FLAG && p->content_type.len < sizeof r->content_type) {
    r->content_type_length = p->content_type.len;
    memcpy(r->content_type, p->content_type.bytes, p->content_type.len);
  }
  r->missing = size;
  r->body_length = 0;
  if (size > r->body_capacity) {
    free(r->body);
    r->body = malloc(size);
    if (!r->body) {
      fprintf(stderr, "error: out of memory\n");
      exit(1);
    }
    r->body_capacity = size;
  }
}

static void answer(amqp_connection_state_t connection, const options *o, const request *r) {
  amqp_basic_properties_t p = {._flags = AMQP_BASIC_CORRELATION_ID_FLAG};
  p.correlation_id = (amqp_bytes_t){r->correlation_length, (void *)r->correlation};
  if (o->mode == MODE_WIRE) {
    p.content_type = (amqp_bytes_t){r->content_type_length, (void *)r->content_type};
    p.delivery_mode = 1;
    p._flags |= AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
  }
  if (r->reply_to_length > 0) {
    check(amqp_basic_publish(connection, 1, amqp_empty_bytes, (amqp_bytes_t){r->reply_to_length, (void *)r->reply_to},
                             0, 0, &p, (amqp_bytes_t){r->body_length, r->body}),
          "publishing");
  }
  if (o->mode == MODE_WIRE) check(amqp_basic_ack(connection, 1, r->tag, 0), "acknowledging");
}

int run_server(const options *o) {
  static request r;
  amqp_connection_state_t connection = open_connection(o);
  set_up(o, connection);
  printf("ready\n");
  fflush(stdout);
  uint64_t calls = 0, errors = 0, first = 0, last = 0;
  double cpu = cpu_us();
  struct timeval patience = {0, 50000};
  for (bool over = false; !over;) {
    amqp_frame_t frame;
    // Looking at standard input costs a system call: only when there is nothing else to do.
    int status = amqp_simple_wait_frame_noblock(connection, &frame, &patience);
    if (status == AMQP_STATUS_TIMEOUT) {
      over = is_over();
      continue;
    }
    check(status, "reading");
    bool complete = false;
    switch (frame.frame_type) {
      case AMQP_FRAME_METHOD:
        if (frame.payload.method.id == AMQP_BASIC_DELIVER_METHOD) {
          r.tag = ((amqp_basic_deliver_t *)frame.payload.method.decoded)->delivery_tag;
        } else {
          fprintf(stderr, "error: the broker sent method 0x%x\n", frame.payload.method.id);
          return 1;
        }
        break;
      case AMQP_FRAME_HEADER:
        read_header(&r, frame.payload.properties.body_size, frame.payload.properties.decoded);
        complete = r.missing == 0;
        break;
      case AMQP_FRAME_BODY:
        if (frame.payload.body_fragment.len > r.missing) {
          fprintf(stderr, "error: a body is longer than its header says\n");
          return 1;
        }
        memcpy(r.body + r.body_length, frame.payload.body_fragment.bytes, frame.payload.body_fragment.len);
        r.body_length += frame.payload.body_fragment.len;
        r.missing -= frame.payload.body_fragment.len;
        complete = r.missing == 0;
        break;
      default: break;
    }
    if (complete) {
      answer(connection, o, &r);
      if (r.reply_to_length == 0) errors++;
      last = now_ns();
      if (calls++ == 0) first = last;
    }
    amqp_maybe_release_buffers_on_channel(connection, 1);
  }
  cpu = cpu_us() - cpu;
  double seconds = calls > 1 ? (double)(last - first) / 1e9 : 0;
  printf("{\"program\":\"raw\",\"side\":\"server\",\"mode\":\"%s\",\"calls\":%llu,\"seconds\":%.3f,\"rps\":%.0f,"
         "\"cpu_us_per_call\":%.3f,\"max_rss_kb\":%ld,\"errors\":%llu}\n",
         o->mode == MODE_WIRE ? "wire" : "echo", (unsigned long long)calls, seconds,
         seconds > 0 ? (double)calls / seconds : 0, calls ? cpu / (double)calls : 0, max_rss_kb(),
         (unsigned long long)errors);
  amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(connection);
  return 0;
}

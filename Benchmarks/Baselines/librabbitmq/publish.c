// The publisher: a loop that keeps a window of mandatory messages unconfirmed.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
#include "raw.h"

static void set_up(amqp_connection_state_t connection, const char *queue) {
  amqp_table_entry_t entries[] = {
      {.key = amqp_cstring_bytes("x-max-length"), .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = 10000}},
  };
  amqp_queue_declare(connection, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, (amqp_table_t){1, entries});
  check_reply(connection, "declaring the queue");
  amqp_queue_purge(connection, 1, amqp_cstring_bytes(queue));
  check_reply(connection, "emptying the queue");
  amqp_confirm_select(connection, 1);
  check_reply(connection, "asking for confirms");
}

// Takes confirms until this message and all before it have theirs.
static void await_confirms(amqp_connection_state_t connection, uint64_t *confirmed, uint64_t wanted) {
  while (*confirmed < wanted) {
    amqp_frame_t frame;
    check(amqp_simple_wait_frame(connection, &frame), "reading");
    amqp_maybe_release_buffers_on_channel(connection, 1);
    if (frame.frame_type != AMQP_FRAME_METHOD) continue;
    if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) {
      fprintf(stderr, "error: the broker sent method 0x%x\n", frame.payload.method.id);
      exit(1);
    }
    amqp_basic_ack_t *ack = frame.payload.method.decoded;
    *confirmed = ack->multiple ? ack->delivery_tag : *confirmed + 1;
  }
}

int run_publish(const options *o) {
  amqp_connection_state_t connection = open_connection(o);
  char queue[300];
  snprintf(queue, sizeof queue, "%s.published", o->service);
  set_up(connection, queue);
  amqp_bytes_t body = amqp_bytes_malloc((size_t)o->body);
  memset(body.bytes, 'x', body.len);
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_CONTENT_TYPE_FLAG,
                                        .content_type = amqp_cstring_bytes("application/json")};
  uint64_t sent = 0, confirmed = 0, start = now_ns(), begin = 0, before = 0;
  uint64_t warm = start + (uint64_t)(o->warmup * 1e9), end = warm + (uint64_t)(o->seconds * 1e9);
  double cpu = 0;
  for (;;) {
    uint64_t now = now_ns();
    if (begin == 0 && now >= warm) {
      begin = now;
      before = sent;
      cpu = cpu_us();
    }
    if (now >= end) break;
    // A batch is written as a whole and confirmed as a whole, as ours is.
    for (int i = 0; i < o->inflight; i++, sent++)
      check(amqp_basic_publish(connection, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), 1, 0, &properties, body),
            "publishing");
    await_confirms(connection, &confirmed, sent);
  }
  cpu = cpu_us() - cpu;
  double seconds = (double)(now_ns() - begin) / 1e9;
  uint64_t calls = sent - before;
  printf("{\"program\":\"raw\",\"side\":\"publish\",\"calls\":%llu,\"inflight\":%d,\"body\":%d,\"seconds\":%.3f,"
         "\"rps\":%.0f,\"cpu_us_per_call\":%.3f,\"max_rss_kb\":%ld,\"errors\":0}\n",
         (unsigned long long)calls, o->inflight, o->body, seconds, (double)calls / seconds,
         calls ? cpu / (double)calls : 0, max_rss_kb());
  amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(connection);
  return 0;
}

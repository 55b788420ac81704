// A queue of messages: filled, and consumed by as little as can be done with librabbitmq's own sockets.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"
#include "raw.h"

// Fills a classic queue with so many transient messages, and returns when the broker has all of them.
int run_fill(const options *o) {
  amqp_connection_state_t connection = open_connection(o);
  amqp_bytes_t queue = amqp_cstring_bytes(o->service);
  amqp_queue_declare(connection, 1, queue, 0, 1, 0, 0, amqp_empty_table);
  check_reply(connection, "declaring the queue");
  amqp_queue_purge(connection, 1, queue);
  check_reply(connection, "emptying the queue");
  amqp_confirm_select(connection, 1);
  check_reply(connection, "asking for confirms");
  char *body = malloc((size_t)o->body);
  if (!body) {
    fprintf(stderr, "error: out of memory\n");
    return 1;
  }
  memset(body, 'x', (size_t)o->body);
  amqp_basic_properties_t p = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG, .delivery_mode = 1};
  uint64_t sent = 0, confirmed = 0;
  while (confirmed < o->calls) {
    while (sent < o->calls && sent - confirmed < 4096) {
      char id[24];
      snprintf(id, sizeof id, "%llu", (unsigned long long)++sent);
      p.message_id = amqp_cstring_bytes(id);
      check(amqp_basic_publish(connection, 1, amqp_empty_bytes, queue, 0, 0, &p,
                               (amqp_bytes_t){(size_t)o->body, body}),
            "publishing");
    }
    amqp_frame_t frame;
    check(amqp_simple_wait_frame(connection, &frame), "waiting for confirms");
    if (frame.frame_type == AMQP_FRAME_METHOD) {
      if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) {
        fprintf(stderr, "error: the broker sent method 0x%x\n", frame.payload.method.id);
        return 1;
      }
      amqp_basic_ack_t *ack = frame.payload.method.decoded;
      // They come in order here: one publisher, one queue.
      confirmed = ack->multiple || ack->delivery_tag > confirmed ? ack->delivery_tag : confirmed;
    }
    amqp_maybe_release_buffers_on_channel(connection, 1);
  }
  free(body);
  printf("{\"program\":\"raw\",\"side\":\"fill\",\"messages\":%llu}\n", (unsigned long long)confirmed);
  amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(connection);
  return 0;
}

// Consumes so many messages. Each is acknowledged by itself, or with a batch size so many by one acknowledgement.
int run_consume(const options *o) {
  amqp_connection_state_t connection = open_connection(o);
  amqp_basic_qos(connection, 1, 0, (uint16_t)o->prefetch, 0);
  check_reply(connection, "setting the prefetch");
  amqp_basic_consume(connection, 1, amqp_cstring_bytes(o->service), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
  check_reply(connection, "consuming the queue");
  uint64_t count = 0, first = 0, tag = 0, missing = 0;
  double cpu = 0;
  while (count < o->calls) {
    amqp_frame_t frame;
    check(amqp_simple_wait_frame(connection, &frame), "reading");
    bool complete = false;
    switch (frame.frame_type) {
      case AMQP_FRAME_METHOD:
        if (frame.payload.method.id != AMQP_BASIC_DELIVER_METHOD) {
          fprintf(stderr, "error: the broker sent method 0x%x\n", frame.payload.method.id);
          return 1;
        }
        tag = ((amqp_basic_deliver_t *)frame.payload.method.decoded)->delivery_tag;
        break;
      case AMQP_FRAME_HEADER:
        missing = frame.payload.properties.body_size;
        complete = missing == 0;
        break;
      case AMQP_FRAME_BODY:
        missing -= frame.payload.body_fragment.len;
        complete = missing == 0;
        break;
      default: break;
    }
    if (complete) {
      if (count++ == 0) {
        first = now_ns();
        cpu = cpu_us();
      }
      if (o->batch <= 1) {
        check(amqp_basic_ack(connection, 1, tag, 0), "acknowledging");
      } else if (count % (uint64_t)o->batch == 0 || count == o->calls) {
        check(amqp_basic_ack(connection, 1, tag, 1), "acknowledging");
      }
    }
    amqp_maybe_release_buffers_on_channel(connection, 1);
  }
  double used = cpu_us() - cpu, seconds = (double)(now_ns() - first) / 1e9;
  printf("{\"program\":\"raw\",\"side\":\"consume\",\"messages\":%llu,\"seconds\":%.3f,\"rate\":%.0f,"
         "\"cpu_us_per_message\":%.3f,\"max_rss_kb\":%ld}\n",
         (unsigned long long)count, seconds, (double)count / seconds, used / (double)count, max_rss_kb());
  amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(connection);
  return 0;
}

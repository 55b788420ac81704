// What both sides share: the options, the connection, the names on the wire.
#ifndef RAW_H
#define RAW_H

#include <stdbool.h>
#include <stdint.h>
#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/framing.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#endif

// What is done on the wire beyond carrying a body there and back.
typedef enum {
  // Nothing: the default exchange, no confirms, nothing acknowledged, the fewest properties.
  MODE_ECHO,
  // What a call of our library does: headers exchange, mandatory, confirms, its properties, replies acked in batches.
  MODE_WIRE,
} mode;

typedef struct {
  const char *host;
  int port;
  const char *service;
  mode mode;
  int inflight;
  int body;
  double seconds;
  double warmup;
  uint64_t calls;
  double rate;
  int prefetch;
  int batch;
} options;

// Fails with a sentence when a status of the library or a reply of the broker is bad.
void check(int status, const char *what);
void check_reply(amqp_connection_state_t connection, const char *what);
// Connected, logged in, with channel 1 open.
amqp_connection_state_t open_connection(const options *o);

int run_client(const options *o);
int run_server(const options *o);
int run_publish(const options *o);
int run_fill(const options *o);
int run_consume(const options *o);

#endif

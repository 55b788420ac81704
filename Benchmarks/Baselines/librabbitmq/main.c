// The baseline: as little as can be done with librabbitmq's own sockets, one thread, one connection, one channel.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raw.h"

static const char help[] =
    "usage: raw-bench client|server|publish|fill|consume [OPTION...]\n"
    "\n"
    "Calls, or answers calls, over RabbitMQ with librabbitmq's own sockets, and prints one line of JSON.\n"
    "\n"
    "  --host HOST, --port PORT   the broker (127.0.0.1, 5672)\n"
    "  --service NAME             the service called or served (bench)\n"
    "  --mode echo|wire           echo: nothing but the bodies; wire: headers exchange, mandatory, confirms, the properties\n"
    "                             of our calls, replies acknowledged in batches (echo)\n"
    "client:\n"
    "  --inflight N               calls that wait at once (64)\n"
    "  --body BYTES               size of the body, a JSON string (64)\n"
    "  --seconds S, --warmup S    how long to measure, and to run before that (3, 1)\n"
    "  --calls N                  measure so many calls instead, after a tenth of them\n"
    "  --rate R                   begin so many calls a second, at most inflight of them waiting\n"
    "publish: --inflight messages at once, then their confirms; --body, --seconds, --warmup as above\n"
    "server: runs until its standard input ends\n"
    "  --prefetch N               deliveries that the broker hands over before they are acknowledged, in mode wire (256)\n"
    "fill: fills the queue that --service names with --calls messages of --body bytes\n"
    "consume: consumes --calls messages of it\n"
    "  --batch N                  acknowledge so many at once (1)\n";

void check(int status, const char *what) {
  if (status >= 0) return;
  fprintf(stderr, "error: %s: %s\n", what, amqp_error_string2(status));
  exit(1);
}

void check_reply(amqp_connection_state_t connection, const char *what) {
  amqp_rpc_reply_t reply = amqp_get_rpc_reply(connection);
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) {
    check(reply.library_error, what);
  } else if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
    amqp_channel_close_t *close = reply.reply.decoded;
    fprintf(stderr, "error: %s: %.*s\n", what, (int)close->reply_text.len, (char *)close->reply_text.bytes);
  } else {
    fprintf(stderr, "error: %s: the broker closed the connection\n", what);
  }
  exit(1);
}

amqp_connection_state_t open_connection(const options *o) {
  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = connection ? amqp_tcp_socket_new(connection) : NULL;
  if (!socket) {
    fprintf(stderr, "error: out of memory\n");
    exit(1);
  }
  check(amqp_socket_open(socket, o->host, o->port), "connecting");
  amqp_rpc_reply_t login =
      amqp_login(connection, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest");
  if (login.reply_type != AMQP_RESPONSE_NORMAL) {
    fprintf(stderr, "error: the broker does not let us in\n");
    exit(1);
  }
  amqp_channel_open(connection, 1);
  check_reply(connection, "opening a channel");
  return connection;
}

enum { HOST = 256, PORT, SERVICE, MODE, INFLIGHT, BODY, SECONDS, WARMUP, CALLS, RATE, PREFETCH, BATCH, HELP };

static const struct option long_options[] = {
    {"host", 1, 0, HOST},       {"port", 1, 0, PORT},         {"service", 1, 0, SERVICE}, {"mode", 1, 0, MODE},
    {"inflight", 1, 0, INFLIGHT}, {"body", 1, 0, BODY},       {"seconds", 1, 0, SECONDS}, {"warmup", 1, 0, WARMUP},
    {"calls", 1, 0, CALLS},     {"rate", 1, 0, RATE},         {"prefetch", 1, 0, PREFETCH}, {"batch", 1, 0, BATCH}, {"help", 0, 0, HELP},
    {0, 0, 0, 0},
};

int main(int argc, char **argv) {
  options o = {
      .host = "127.0.0.1", .port = 5672, .service = "bench", .mode = MODE_ECHO, .inflight = 64, .body = 64,
      .seconds = 3, .warmup = 1, .prefetch = 256, .batch = 1,
  };
  for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
    switch (c) {
      case HOST: o.host = optarg; break;
      case PORT: o.port = atoi(optarg); break;
      case SERVICE: o.service = optarg; break;
      case MODE:
        if (strcmp(optarg, "echo") != 0 && strcmp(optarg, "wire") != 0) {
          fprintf(stderr, "error: --mode is echo or wire\n");
          return 64;
        }
        o.mode = strcmp(optarg, "wire") == 0 ? MODE_WIRE : MODE_ECHO;
        break;
      case INFLIGHT: o.inflight = atoi(optarg); break;
      case BODY: o.body = atoi(optarg); break;
      case SECONDS: o.seconds = atof(optarg); break;
      case WARMUP: o.warmup = atof(optarg); break;
      case CALLS: o.calls = strtoull(optarg, NULL, 10); break;
      case RATE: o.rate = atof(optarg); break;
      case PREFETCH: o.prefetch = atoi(optarg); break;
      case BATCH: o.batch = atoi(optarg); break;
      case HELP: fputs(help, stdout); return 0;
      default: fputs(help, stderr); return 64;
    }
  }
  if (optind + 1 != argc || o.inflight < 1 || o.body < 2 || o.prefetch < 1 || o.prefetch > 65535) {
    fputs(help, stderr);
    return 64;
  }
  if (strcmp(argv[optind], "client") == 0) return run_client(&o);
  if (strcmp(argv[optind], "server") == 0) return run_server(&o);
  if (strcmp(argv[optind], "publish") == 0) return run_publish(&o);
  if (strcmp(argv[optind], "fill") == 0) return run_fill(&o);
  if (strcmp(argv[optind], "consume") == 0) return run_consume(&o);
  fputs(help, stderr);
  return 64;
}

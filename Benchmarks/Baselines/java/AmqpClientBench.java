// Calls with RabbitMQ's client for Java: futures that time out, completed by the consumer's thread, which begins the next call.

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.ConfirmListener;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

public final class AmqpClientBench {
    private static final long TIMEOUT = 30_000;
    // So many replies are acknowledged by one acknowledgement.
    private static final int ACKNOWLEDGED = 16;

    private final Map<String, String> options;
    private final boolean wire;
    private final String service;
    private final Channel channel;
    private final byte[] body;
    private final String ids;
    private final Map<String, Object> headers;
    private final String replies;
    private final ConcurrentHashMap<String, CompletableFuture<Boolean>> pending = new ConcurrentHashMap<>();
    private final AtomicLong lastId = new AtomicLong();
    private final AtomicLong failures = new AtomicLong();
    private final Object lock = new Object();
    // Of the calls that ended while they are counted, in nanoseconds.
    private long[] times = new long[1 << 20];
    private int count;
    private int taken;
    private volatile boolean counts;
    private volatile boolean over;

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) options.put(arguments[i].substring(2), arguments[i + 1]);
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(options.getOrDefault("url", "amqp://guest:guest@127.0.0.1:5672"));
        factory.setAutomaticRecoveryEnabled(false);
        try (Connection connection = factory.newConnection()) {
            new AmqpClientBench(options, connection.createChannel()).run();
        }
    }

    private AmqpClientBench(Map<String, String> options, Channel channel) throws IOException {
        this.options = options;
        this.channel = channel;
        wire = options.getOrDefault("mode", "wire").equals("wire");
        service = options.getOrDefault("service", "bench");
        body = ('"' + "x".repeat(number("body", 64) - 2) + '"').getBytes("UTF-8");
        String random = UUID.randomUUID().toString();
        // An id is as long as a UUID; its last twelve digits count.
        ids = random.substring(0, 24);
        headers = Map.of("destination", service, "procedure", "echo", "timeout-ms", TIMEOUT);
        replies = setUp("java.replies." + random);
    }

    private int number(String key, int otherwise) {
        return Integer.parseInt(options.getOrDefault(key, Integer.toString(otherwise)));
    }

    private double seconds(String key, double otherwise) {
        return Double.parseDouble(options.getOrDefault(key, Double.toString(otherwise)));
    }

    // Declares and consumes the reply queue.
    private String setUp(String name) throws IOException {
        String queue;
        if (wire) {
            channel.exchangeDeclare("rpc", "headers", true);
            queue = channel.queueDeclare(name, true, false, true, Map.of("x-expires", 60000)).getQueue();
            channel.basicQos(256);
            channel.confirmSelect();
            channel.addConfirmListener(new ConfirmListener() {
                @Override
                public void handleAck(long tag, boolean multiple) {}

                @Override
                public void handleNack(long tag, boolean multiple) {
                    failures.incrementAndGet();
                }
            });
            channel.addReturnListener((code, text, exchange, key, properties, returned) -> {
                System.err.println("error: a request came back: nobody serves " + service);
                System.exit(1);
            });
        } else {
            queue = channel.queueDeclare("", false, true, true, null).getQueue();
        }
        channel.basicConsume(queue, !wire, new DefaultConsumer(channel) {
            @Override
            public void handleDelivery(String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] reply)
                    throws IOException {
                if (wire && ++taken == ACKNOWLEDGED) {
                    taken = 0;
                    synchronized (lock) {
                        channel.basicAck(envelope.getDeliveryTag(), true);
                    }
                }
                CompletableFuture<Boolean> waiting = pending.remove(properties.getCorrelationId());
                boolean failed = properties.getHeaders() != null && !properties.getHeaders().isEmpty();
                if (waiting != null) waiting.complete(!failed && reply.length == body.length);
            }
        });
        return queue;
    }

    private void run() throws Exception {
        int inflight = number("inflight", 64);
        OperatingSystemMXBean system = ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class);
        for (int i = 0; i < inflight; i++) begin();
        Thread.sleep((long) (seconds("warmup", 5) * 1000));
        failures.set(0);
        long begun = System.nanoTime();
        double before = system.getProcessCpuTime();
        counts = true;
        Thread.sleep((long) (seconds("seconds", 3) * 1000));
        counts = false;
        double used = system.getProcessCpuTime() - before;
        double took = (System.nanoTime() - begun) / 1e9;
        over = true;
        for (int i = 0; i < 200 && !pending.isEmpty(); i++) Thread.sleep(10);

        if (count == 0) throw new IllegalStateException("no call has ended");
        Arrays.sort(times, 0, count);
        System.out.printf(
                Locale.ROOT,
                "{\"program\":\"java\",\"side\":\"client\",\"mode\":\"%s\",\"calls\":%d,\"inflight\":%d,\"body\":%d,"
                        + "\"seconds\":%.3f,\"rps\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,"
                        + "\"cpu_us_per_call\":%.3f,\"errors\":%d}%n",
                wire ? "wire" : "echo", count, inflight, body.length, took, count / took, at(0.5), at(0.99), at(0.999),
                used / 1e3 / count, failures.get());
    }

    private double at(double part) {
        return times[(int) (part * (count - 1))] / 1e3;
    }

    private void begin() {
        String digits = Long.toHexString(lastId.incrementAndGet());
        String id = ids + "000000000000".substring(digits.length()) + digits;
        AMQP.BasicProperties.Builder properties = new AMQP.BasicProperties.Builder().correlationId(id).replyTo(replies);
        if (wire) {
            properties.headers(headers).contentType("application/json").deliveryMode(1).messageId(id)
                    .expiration(Long.toString(TIMEOUT));
        }
        CompletableFuture<Boolean> reply = new CompletableFuture<>();
        pending.put(id, reply);
        long begun = System.nanoTime();
        reply.orTimeout(TIMEOUT, TimeUnit.MILLISECONDS).whenComplete((isRight, error) -> {
            if (error != null) pending.remove(id);
            ended(System.nanoTime() - begun, error == null && isRight);
            if (!over) begin();
        });
        try {
            synchronized (lock) {
                if (wire) {
                    channel.basicPublish("rpc", "", true, properties.build(), body);
                } else {
                    channel.basicPublish("", service + ".rpcs", properties.build(), body);
                }
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private void ended(long took, boolean isRight) {
        if (!counts) return;
        synchronized (times) {
            if (count < times.length) times[count++] = took;
        }
        if (!isRight) failures.incrementAndGet();
    }
}

import BrokerSupport
import LocalBroker
import RPCCaller
import RPCReceiver
import Testing

/// Fibonacci numbers as plain text, on a queue of its own name: RabbitMQ's tutorial six.
private let fib = RPCProcedure<String, String>(nil, codec: .text)

/// The tutorial's server declares its queue as neither durable nor exclusive.
private let transientQueues = ConditionTrait.enabled("the broker does not permit transient queues") {
    try await TestBroker.permitsTransientQueues()
}

@Suite(
    "The RabbitMQ tutorial's programs",
    .enabled(if: Program.interpreter != nil, "pika is missing: scripts/bootstrap --tests"),
    .timeLimit(.minutes(3))
)
struct TutorialTests {
    @Test("its client is answered by our receiver on the queue rpc_queue")
    func client() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            // The service's name is the queue's, with nothing after it.
            try await withReceiver("rpc_queue", names: RPCNames(requestQueueSuffix: ""), url: url) {
                RPCHandler(fib) { text, _ in
                    guard let n = Int(text) else {
                        throw RPCFailure(code: .undecodableRequest, message: "it is no number")
                    }
                    return String(fibonacci(n))
                }
            } _: { receiver in
                let client = try Program("tutorial_client", ["30", "0", "7"], url: url)
                defer { client.kill() }
                #expect(try await client.line() == "832040")
                #expect(try await client.line() == "0")
                #expect(try await client.line() == "13")
                #expect(receiver.counts.failed == 0)
            }
        }
    }

    @Test("its server answers our caller on the queue rpc_queue", transientQueues)
    func server() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileRunning("tutorial_server", url: url) { _ in
                try await withCaller(url: url) { rpc in
                    for (n, expected) in [("30", "832040"), ("7", "13")] {
                        let result = try await rpc.callQueue("rpc_queue", fib, n, timeout: .seconds(30))
                        #expect(result == expected)
                    }
                }
            }
        }
    }

    @Test(
        "its client is answered by rpc serve, and its server called by rpc call",
        .enabled(if: Program.tool != nil),
        transientQueues
    )
    func tool() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            // The client sends at once, and what it sends before there is a queue goes nowhere.
            try await broker.declareQueue("rpc_queue", durable: false, virtualHost: virtualHost)
            let arguments = ["serve", "rpc_queue", "--queue", "--transient", "--text", "--default", "fib"]
            let server = try Program(tool: arguments, url: url)
            defer { server.kill() }
            let client = try Program("tutorial_client", ["30", "7"], url: url)
            defer { client.kill() }
            #expect(try await client.line() == "832040")
            #expect(try await client.line() == "13")
        }
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileRunning("tutorial_server", url: url) { _ in
                let call = try Program(tool: ["call", "rpc_queue", "", "30", "--queue", "--text"], url: url)
                defer { call.kill() }
                #expect(try await call.line() == "832040")
            }
        }
    }
}

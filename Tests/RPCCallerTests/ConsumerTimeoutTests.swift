import AMQPPool
import BrokerSupport
import LocalBroker
import RPCCaller
import RPCReceiver
import Testing

@Suite("A broker with a consumer timeout of three seconds")
struct ConsumerTimeoutTests {
    @Test("A request that is handled for longer comes again and is answered; others are answered all the time")
    func longRequest() async throws {
        var options = TestBroker.options
        options.configuration = "consumer_timeout = 3000"
        try await withServicesOnOwnBroker(
            options,
            receiver: {
                // The only kind of queue that has the timeout on every version.
                $0.queueArguments = ["x-queue-type": "quorum"]
                $0.drainTimeout = .seconds(1)
            }
        ) { services in
            let rpc = services.rpc
            let long = Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "hold", 7, timeout: .seconds(240), as: Int.self)
                }
            }
            await services.gate.waitForArrivals(1)
            var number = 0
            try await eventually(within: .seconds(120), "it comes again") {
                number += 1
                let answer = await outcome { () throws(RPCError) in
                    // The end of a channel takes along what it has delivered.
                    try await rpc.call(
                        "math",
                        "add",
                        [number, 1],
                        timeout: .seconds(60),
                        retry: .idempotent(attempts: 10),
                        as: Int.self
                    )
                }
                guard case .success(number + 1) = answer else {
                    Issue.record("\(answer)")
                    return true
                }
                return services.receiver.counts.redelivered > 0 && services.gate.arrived > 1
            }
            services.gate.open()
            guard case .success(7) = await long.value else {
                Issue.record("\(await long.value)")
                return
            }
            try await eventually("nothing is left") {
                try await services.broker.queue("math.rpcs", virtualHost: services.virtualHost)?.messages == 0
            }
        }
    }
}

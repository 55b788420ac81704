import AMQPPool
import BrokerSupport
import ChaosSupport
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import Testing

/// One pool for a process, with a receiver and a caller on it: two connections carry all.
@Suite("The kill matrix of a shared pool", .timeLimit(.minutes(15)))
struct SharedPoolTests {
    /// What forgets the calls that wait: the caller's stores, what they restart with, and both connections at once.
    private static let fatal: Set<String> = [
        "app/amqp-pool", "app/amqp-pool/registry", "app/amqp-pool/pool", "app/receiver", "app/caller",
        "app/caller/registry",
        "app/caller/pending", "app/caller/pool",
    ]

    /// Whether both connections of the pool, or one, go with this process: then the caller and the receiver lose theirs too.
    private static func endsConnections(_ path: String) -> Bool {
        path == "app/amqp-pool/registry" || path == "app/amqp-pool/pool"
            || path.hasPrefix("app/amqp-pool/pool/connection-supervisor-") && !path.contains("channel")
    }

    @Test(
        "calls are answered, or fail at once with the reason when the table of calls or both connections are gone",
        arguments: Matrix.shares
    )
    func matrix(_ share: Int) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let gates = Gates()
            let view = BrokerView(broker, virtualHost)
            let current = Latest<RPCCaller>()
            let calls = KillMatrixTests.calls(
                current,
                gates,
                isCallers: true,
                isFatal: { Self.fatal.contains($0) },
                isFailure: { error in
                    switch error {
                    case .callerRestarted, .replyQueueLost: true
                    default: false
                    }
                }
            )
            let isAsExpected = { @Sendable in
                try await view.becomes(
                    [
                        "math.rpcs: 2 consumers, 0 messages", "reply queue: 2 consumers, 0 messages",
                        "2 connections, 6 channels",
                    ],
                    replyQueue: { try current.value().replyQueueName }
                )
            }
            var chaos = Chaos(
                invariants: [
                    calls,
                    Chaos.Invariant("the broker has what it should, and nothing else") { _ in try await isAsExpected()
                    },
                ],
                timeout: .seconds(120),
                expecting: { kill in
                    guard Self.endsConnections(kill.path) else { return nil }
                    // The specification does not say that who leases a connection restarts with it.
                    return kill.way == .failingRestart(.always) ? .anything : .isWhole
                },
                ready: { _ in
                    gates.open()
                    try await current.value().waitUntilReady(timeout: .seconds(60))
                    try await isAsExpected()
                }
            ) {
                let pool = AMQPPool(configuration: try Services.pool(url), logger: Services.quiet)
                let receiver = try Services.receiver(url, on: pool) { Services.procedures(gates) }
                let caller = try Services.caller(url, on: pool)
                current.set(caller)
                return Supervisor("app", strategy: .restForOne, logger: Services.quiet) {
                    pool.supervisor
                    receiver.supervisor
                    caller.supervisor
                }
            }
            chaos.shrinkingTime = .seconds(60)
            defer { gates.open() }
            try await Matrix.play(
                chaos,
                "shared-pool",
                share: share,
                Matrix.folder == nil ? [.crash, .kill] : Chaos.Way.all
            )
        }
    }
}

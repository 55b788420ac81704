import AMQPPool
import BrokerSupport
import Logging
import RPCCaller
import RPCReceiver

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A receiver that is ready, stopped afterwards.
func withReceiver(
    _ service: String,
    names: RPCNames = RPCNames(),
    url: String,
    @RPCHandlersBuilder procedures: () -> [RPCHandler],
    _ body: (RPCReceiver) async throws -> Void
) async throws {
    var configuration = RPCReceiverConfiguration(endpoints: [try Endpoint(url: url)])
    configuration.names = names
    let receiver = RPCReceiver(
        service: service,
        configuration: configuration,
        logger: quiet,
        procedures: RPCHandlers(procedures)
    )
    try await receiver.start()
    do {
        try await receiver.waitUntilReady(timeout: .seconds(90))
        try await body(receiver)
    } catch {
        await receiver.stop()
        throw error
    }
    await receiver.stop()
}

/// A caller that is ready, stopped afterwards.
func withCaller(url: String, _ body: (RPCCaller) async throws -> Void) async throws {
    let rpc = RPCCaller(service: "swift", endpoints: [try Endpoint(url: url)], logger: quiet)
    try await rpc.start()
    do {
        try await rpc.waitUntilReady(timeout: .seconds(90))
        try await body(rpc)
    } catch {
        await rpc.stop()
        throw error
    }
    await rpc.stop()
}

func fibonacci(_ n: Int) -> Int {
    var (a, b) = (0, 1)
    for _ in 0..<n { (a, b) = (b, a &+ b) }
    return a
}

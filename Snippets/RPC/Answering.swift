import RPCReceiver

struct UnknownItem: Error {}
func count(_ item: String) async throws -> Int { item.count }
func reserve(_ item: String, onceFor id: String?) async throws -> Bool { id != nil }

// snippet.failures
let failing = RPCHandler("count") { (item: String, _) in
    do {
        return try await count(item)
    } catch is UnknownItem {
        throw RPCFailure(code: "unknown_item", message: "there is no \(item)", details: ["item": .string(item)])
    }
}
// snippet.end

// snippet.context
let careful = RPCHandler("reserve") { (item: String, context) in
    context.logger.info("reserving", metadata: ["again": "\(context.redelivered)"])
    guard context.remaining > .milliseconds(100) else {
        throw RPCFailure(code: "too_late", message: "there is no time left to reserve anything")
    }
    return try await reserve(item, onceFor: context.messageID)
}
// snippet.end

// snippet.connection
let prices = ["pear": 120, "plum": 80]
let price = RPCHandler("price", runs: .onConnection) { (item: String, _) in prices[item] }
// snippet.end

// snippet.configuration
var configuration = RPCReceiverConfiguration(endpoints: ["amqp://guest:guest@127.0.0.1:5672"])
configuration.concurrency = 50
configuration.handlerTimeLimit = .seconds(20)
configuration.queueArguments = ["x-queue-type": "quorum"]
configuration.deduplication = RPCDeduplication()
configuration.whenBusy = .shed(waiting: 100)
let receiver = RPCReceiver(
    service: "stock",
    configuration: configuration,
    procedures: RPCHandlers { [failing, careful] }
)
// snippet.end
try await receiver.run()

import RPCCaller

let rpc = RPCCaller(service: "checkout", endpoints: ["amqp://guest:guest@127.0.0.1:5672"])

// snippet.errors
func stock(of item: String) async -> Int? {
    do throws(RPCError) {
        return try await rpc.call("stock", "count", item)
    } catch {
        switch error {
        case .remote(let failure) where failure.code == "unknown_item":
            return 0
        case .unroutable, .notConnected, .blocked:
            // The service or the broker is down: not processed.
            return nil
        default:
            print("\(error); may have been processed: \(error.requestMayHaveBeenProcessed)")
            return nil
        }
    }
}
// snippet.end

// snippet.retry
let total: Int = try await rpc.call(
    "stock",
    "count",
    "book",
    timeout: .seconds(2),
    retry: .idempotent(attempts: 3)
)
// snippet.end

// snippet.configuration
var configuration = RPCCallerConfiguration(endpoints: [
    "amqp://guest:guest@10.0.0.1:5672", "amqp://guest:guest@10.0.0.2:5672",
])
configuration.timeout = .seconds(2)
configuration.whenFull = .wait(limit: 1000)
let patient = RPCCaller(service: "checkout", configuration: configuration)
// snippet.end
print(total, patient.pendingCount, await stock(of: "book") ?? -1)

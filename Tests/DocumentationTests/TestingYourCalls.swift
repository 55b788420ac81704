import RPCCaller
import RPCReceiver
import RPCTesting
import Testing

// snippet.declarations
enum Stock {
    static let count = RPCProcedure<String, Int>("count")
}
// snippet.end

// snippet.code
/// The code under test: it makes calls.
struct Checkout {
    let rpc: RPCCaller

    func isAvailable(_ item: String) async -> Bool {
        do throws(RPCError) {
            return try await rpc.call("stock", Stock.count, item) > 0
        } catch {
            return false
        }
    }
}
// snippet.end

// snippet.outage
/// Simulates a lost connection.
struct Outage: RPCCallerInterceptor {
    func intercept(_ request: RPCRequest, next: RPCCallerNext) async throws(RPCError) -> RPCReply {
        throw .connectionLost(requestMayHaveBeenDelivered: true)
    }
}
// snippet.end

@Suite("Testing your calls")
struct TestingYourCalls {
    // snippet.test
    @Test("what is in stock is available")
    func available() async {
        let stock = RPCHandlers {
            RPCHandler(Stock.count) { item, _ in item == "book" ? 2 : 0 }
        }
        let checkout = Checkout(rpc: .inProcess(["stock": stock]))
        #expect(await checkout.isAvailable("book"))
        #expect(await !checkout.isAvailable("pen"))
    }
    // snippet.end

    // snippet.outage-test
    @Test("nothing is available while the connection is lost")
    func outage() async {
        let rpc = RPCCaller.inProcess([:]) { $0.interceptors = [Outage()] }
        #expect(await !Checkout(rpc: rpc).isAvailable("book"))
    }
    // snippet.end

    // snippet.procedures
    @Test("a procedure answers for itself")
    func procedure() async throws {
        let stock = RPCHandlers {
            RPCHandler(Stock.count) { item, context in
                context.redelivered ? 0 : item.count
            }
        }
        #expect(try await stock.call(Stock.count, "book") == 4)
        #expect(try await stock.call(Stock.count, "book", context: RPCContext(redelivered: true)) == 0)
    }
    // snippet.end
}

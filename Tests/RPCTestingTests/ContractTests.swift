import AMQPPool
import RPCCaller
import RPCContract
import RPCReceiver
import RPCTesting
import Supervision
import Testing

private enum Shop: RPCService {
    static let name = "shop"
    static let price = RPCProcedure<String, Int>("price")
    static let stock = RPCProcedure<[String], [Int]>("stock")
    static let other = RPCProcedure<Int, Int>(nil)
    static let procedures: [any RPCDeclaration] = [price, stock, other]
}

@Suite("The contract of a service", .timeLimit(.minutes(5)))
struct ContractTests {
    private func receiver(@RPCHandlersBuilder _ procedures: () -> [RPCHandler]) -> RPCReceiver {
        RPCReceiver(Shop.self, endpoints: [], procedures: procedures)
    }

    private var complete: RPCReceiver {
        receiver {
            RPCHandler(Shop.price) { name, _ in name.count }
            RPCHandler(Shop.stock) { names, _ in names.map(\.count) }
            RPCHandler(Shop.other) { n, _ in n }
        }
    }

    private func reason(_ receiver: RPCReceiver) async -> RPCConfigurationError? {
        do {
            try await receiver.start()
            return nil
        } catch SupervisionError.failedToStart(_, .crashed(let error)) {
            return error as? RPCConfigurationError
        } catch {
            return nil
        }
    }

    @Test("is what calls are made by, and what the receiver answers")
    func calls() async throws {
        let rpc = RPCCaller.inProcess(receivers: [complete])
        #expect(try await rpc.call(Shop.self, Shop.price, "book") == 4)
        #expect(try await rpc.call(Shop.self, Shop.stock, ["a", "bc"]) == [1, 2])
    }

    @Test("a procedure that is missing, or has other types, keeps the receiver from starting, by name")
    func incomplete() async {
        let missing = receiver {
            RPCHandler(Shop.price) { name, _ in name.count }
            RPCHandler(Shop.other) { n, _ in n }
        }
        #expect(await reason(missing) == .missingProcedure("stock", service: "shop"))
        let nameless = receiver {
            RPCHandler(Shop.price) { name, _ in name.count }
            RPCHandler(Shop.stock) { names, _ in names.map(\.count) }
        }
        #expect(await reason(nameless) == .missingProcedure("default", service: "shop"))
        let different = receiver {
            RPCHandler("price") { (n: Int, _) in n }
            RPCHandler(Shop.stock) { names, _ in names.map(\.count) }
            RPCHandler(Shop.other) { n, _ in n }
        }
        #expect(await reason(different) == .differentProcedure("price", service: "shop"))
        #expect(await reason(complete) == .noEndpoints, "with all of them only the broker is missing")
    }

    @Test("a running service says what it answers, unless it is told not to")
    func described() async throws {
        let rpc = RPCCaller.inProcess(receivers: [complete])
        let description = try await rpc.describe("shop")
        #expect(description.service == "shop")
        #expect(description.procedures.map(\.name) == [nil, "price", "stock"])
        #expect(description.procedures[1] == Shop.price.description)
        var configuration = RPCReceiverConfiguration(endpoints: [])
        configuration.describesItself = false
        let silent = RPCReceiver(service: "shop", configuration: configuration, procedures: RPCHandlers {})
        let other = RPCCaller.inProcess(receivers: [silent])
        await #expect(throws: RPCError.self) { _ = try await other.describe("shop") }
    }
}

import Hummingbird
import Logging
import QueueWorkers
import RPCCaller
import RPCReceiver
import RPCTesting
import ShopContract
import ShopServices
import Synchronization
import Testing

/// The catalog and the orders, called without a broker.
func shop(_ sent: @escaping @Sendable (Mail) async throws -> Void = { _ in }) -> RPCCaller {
    let catalog = RPCCaller.inProcess([Catalog.name: CatalogService.procedures(Products())])
    return RPCCaller.inProcess([
        Catalog.name: CatalogService.procedures(Products()),
        Orders.name: OrderService.procedures(catalog, send: sent),
    ])
}

@Suite("The shop, without a broker")
struct ShopTests {
    @Test("an order costs what its products cost, and has a letter")
    func order() async throws {
        let mails = Mutex<[Mail]>([])
        let rpc = shop { mail in mails.withLock { $0.append(mail) } }
        let order = try await rpc.call(
            Orders.self,
            Orders.place,
            NewOrder(id: "1", product: "tea", count: 3, mail: "ada@example.com")
        )
        #expect(order == Order(id: "1", cents: 2250))
        #expect(mails.withLock { $0.map(\.to) } == ["ada@example.com"])
    }

    @Test("what cannot be ordered is refused with a reason, and has no letter")
    func refused() async throws {
        let rpc = shop { _ in Issue.record("there is no letter") }
        for (order, code) in [
            (NewOrder(id: "1", product: "boat", count: 1, mail: "ada@example.com"), Catalog.unknownProduct),
            (NewOrder(id: "2", product: "tea", count: 0, mail: "ada@example.com"), Orders.invalidOrder),
            (NewOrder(id: "3", product: "tea", count: 1, mail: "ada"), Orders.invalidOrder),
        ] {
            let error = await #expect(throws: RPCError.self) { try await rpc.call(Orders.self, Orders.place, order) }
            guard case .remote(let failure)? = error else {
                Issue.record("\(order): \(String(describing: error))")
                continue
            }
            #expect(failure.code == code)
        }
    }

    @Test("a catalog that is not there is not hidden behind an internal error: nothing was done")
    func secondHop() async throws {
        let rpc = RPCCaller.inProcess([
            Orders.name: OrderService.procedures(RPCCaller.inProcess([:] as [String: RPCHandlers])) { _ in }
        ])
        let error = await #expect(throws: RPCError.self) {
            try await rpc.call(
                Orders.self,
                Orders.place,
                NewOrder(id: "1", product: "tea", count: 1, mail: "ada@example.com")
            )
        }
        guard case .remote(let failure)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(failure.code == .upstreamUnroutable)
        #expect(error?.requestMayHaveBeenProcessed == false)
    }

    @Test("a letter is sent once, and one that cannot be sent is tried again, and parked in the end")
    func mails() async throws {
        let server = MailServer(logger: Logger(label: "test"))
        let worker = InProcessWorker(of: Mail.self, retry: Mailer.retry, configuration: Mailer.configuration) {
            mail,
            _ in
            try await server.send(mail)
        }
        let good = Mail(order: "1", to: "ada@example.com", text: "")
        #expect(try await worker.deliver(good, id: "1") == .handled)
        #expect(try await worker.deliver(good, id: "1") == .handled)
        let bad = Mail(order: "2", to: "x@refused.example", text: "")
        #expect(try await worker.deliver(bad, id: "2") == .delayed(.seconds(10)))
        #expect(await worker.redeliver() == [.delayed(.seconds(60))])
        #expect(await worker.redeliver() == [.delayed(.seconds(600))])
        let last = await worker.redeliver()
        guard case .parked? = last.first else {
            Issue.record("\(last)")
            return
        }
    }

    @Test(
        "an error of a call is a status of HTTP that says whether to ask again",
        arguments: [
            (.remote(RPCFailure(code: Catalog.unknownProduct, message: "")), 404),
            (.remote(RPCFailure(code: Orders.invalidOrder, message: "")), 400),
            (.timeout(requestMayHaveBeenDelivered: true), 504),
            (.unroutable(destination: Orders.name), 503),
            (.notConnected(why: ""), 503),
            (.remote(RPCFailure(code: .internalError, message: "")), 502),
            (.connectionLost(requestMayHaveBeenDelivered: true), 502),
        ] as [(RPCError, Int)]
    )
    func statuses(_ error: RPCError, _ status: Int) async throws {
        let answer = await #expect(throws: HTTPError.self) {
            try await Front.answering { () async throws(RPCError) -> Int in throw error }
        }
        #expect(answer?.status.code == status)
    }
}

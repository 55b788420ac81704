package import AMQPPool
package import Logging
internal import QueueWorkers
package import RPCCaller
package import RPCReceiver
package import ShopContract
package import Supervision

package enum OrderService {
    /// - Parameters:
    ///   - rpc: calls the catalog.
    ///   - send: puts a letter into the mailer's queue, and returns when the broker has it.
    package static func procedures(
        _ rpc: RPCCaller,
        send: @escaping @Sendable (Mail) async throws -> Void
    ) -> RPCHandlers {
        RPCHandlers {
            RPCHandler(Orders.place) { order, _ in
                guard (1...100).contains(order.count), order.mail.contains("@") else {
                    throw RPCFailure(code: Orders.invalidOrder, message: "1 to 100 of something, for a mail address")
                }
                // The call has the deadline of the current request. It changes nothing, so it may be sent again.
                let product = try await product(order.product, rpc)
                let placed = Order(id: order.id, cents: product.cents * order.count)
                let text = "\(order.count) x \(product.name): \(placed.cents) cents"
                // The request is acknowledged after its answer. If the process dies here, the request is run again, and the
                // mailer detects the duplicate letter by its order.
                try await send(Mail(order: order.id, to: order.mail, text: text))
                return placed
            }
        }
    }

    /// The catalog's failure for a product becomes this service's failure. Any other error of the call is passed on as it is
    /// (`upstream_timeout`, `upstream_unroutable`, ...).
    private static func product(_ id: String, _ rpc: RPCCaller) async throws -> Product {
        do throws(RPCError) {
            return try await rpc.call(Catalog.self, Catalog.product, id, retry: .idempotent())
        } catch .remote(let failure) where failure.code == Catalog.unknownProduct {
            throw RPCFailure(code: Catalog.unknownProduct, message: failure.message)
        }
    }

    /// One pool for all communication of the process with the broker.
    package static func tree(
        on pool: AMQPPool,
        logger: Logger
    ) -> (supervisor: Supervisor, caller: RPCCaller, receiver: RPCReceiver) {
        let rpc = RPCCaller(service: Orders.name, on: pool, logger: logger)
        var configuration = RPCReceiverConfiguration()
        configuration.contract = Orders.self
        // A quorum queue is replicated, and counts deliveries: a request that crashes its receiver each time is given up at the limit.
        configuration.queueArguments = ["x-queue-type": .string("quorum")]
        let receiver = RPCReceiver(
            service: Orders.name,
            on: pool,
            configuration: configuration,
            logger: logger,
            procedures: procedures(rpc) { mail in try await pool.publish(mail, to: Mail.queue, id: mail.order) }
        )
        // Children stop in reverse order: the receiver first, since its handlers make calls.
        let supervisor = Supervisor("orders", strategy: .restForOne, logger: logger) {
            pool.supervisor
            rpc.supervisor
            receiver.supervisor
        }
        return (supervisor, rpc, receiver)
    }
}

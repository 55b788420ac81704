package import AMQPPool
package import Logging
internal import QueueWorkers
package import RPCCaller
package import RPCReceiver
package import ShopContract
package import Supervision

package enum OrderService {
    /// - Parameters:
    ///   - rpc: asks the catalog.
    ///   - send: puts a letter into the mailer's queue, and returns when the broker has it.
    package static func procedures(
        _ rpc: RPCCaller,
        send: @escaping @Sendable (Mail) async throws -> Void
    ) -> Procedures {
        Procedures {
            Procedure(Orders.place) { order, _ in
                guard (1...100).contains(order.count), order.mail.contains("@") else {
                    throw RPCFailure(code: Orders.invalidOrder, message: "1 to 100 of something, for a mail address")
                }
                // It has the deadline of the request that is being answered, and may be sent again: asking changes nothing.
                let product = try await product(order.product, rpc)
                let placed = Order(id: order.id, cents: product.cents * order.count)
                let text = "\(order.count) x \(product.name): \(placed.cents) cents"
                // The request is acknowledged after its answer, so one that dies here is run again, and the mailer
                // recognises the letter by its order.
                try await send(Mail(order: order.id, to: order.mail, text: text))
                return placed
            }
        }
    }

    /// What the catalog says of a product is what this service says of it; any other error of the call keeps its truth by itself
    /// (`upstream_timeout`, `upstream_unroutable`, ...).
    private static func product(_ id: String, _ rpc: RPCCaller) async throws -> Product {
        do throws(RPCError) {
            return try await rpc.call(Catalog.self, Catalog.product, id, retry: .idempotent())
        } catch .remote(let failure) where failure.code == Catalog.unknownProduct {
            throw RPCFailure(code: Catalog.unknownProduct, message: failure.message)
        }
    }

    /// One pool for everything that the process says to the broker.
    package static func tree(
        on pool: AMQPPool,
        logger: Logger
    ) -> (supervisor: Supervisor, caller: RPCCaller, receiver: RPCReceiver) {
        let rpc = RPCCaller(service: Orders.name, on: pool, logger: logger)
        var configuration = RPCReceiverConfiguration()
        configuration.contract = Orders.self
        // Replicated, and it counts deliveries: a request that kills whoever runs it is given up in the end.
        configuration.queueArguments = ["x-queue-type": .string("quorum")]
        let receiver = RPCReceiver(
            service: Orders.name,
            on: pool,
            configuration: configuration,
            logger: logger,
            procedures: procedures(rpc) { mail in try await pool.publish(mail, to: Mail.queue, id: mail.order) }
        )
        // Stopped in reverse: what answers first, since it makes calls.
        let supervisor = Supervisor("orders", strategy: .restForOne, logger: logger) {
            pool.supervisor
            rpc.supervisor
            receiver.supervisor
        }
        return (supervisor, rpc, receiver)
    }
}

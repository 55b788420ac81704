package import AMQPPool
package import Logging
package import RPCReceiver
package import ShopContract
package import Supervision

/// The products and their current prices.
package actor Products {
    private var products: [String: Product] = [
        "tea": Product(id: "tea", name: "A tin of tea", cents: 750),
        "pot": Product(id: "pot", name: "A pot", cents: 3200),
    ]
    package private(set) var refreshes = 0

    package init() {}

    package func find(_ id: String) -> Product? { products[id] }

    /// A real shop would ask its warehouse here.
    package func refresh() { refreshes += 1 }
}

package enum CatalogService {
    package static func procedures(_ products: Products) -> RPCHandlers {
        RPCHandlers {
            RPCHandler(Catalog.product) { id, _ in
                guard let product = await products.find(id) else {
                    throw RPCFailure(code: Catalog.unknownProduct, message: "there is no product \(id.prefix(50))")
                }
                return product
            }
        }
    }

    /// The service as a tree: the pool first, since the others use it; then the receiver, and a job.
    ///
    /// The job has its own supervisor: if it fails repeatedly, only that supervisor is restarted, and the receiver keeps answering.
    package static func tree(on pool: AMQPPool, logger: Logger) -> (supervisor: Supervisor, receiver: RPCReceiver) {
        let products = Products()
        var configuration = RPCReceiverConfiguration()
        configuration.contract = Catalog.self
        // A quorum queue is replicated, and counts deliveries: a request that crashes its receiver each time is given up at the limit.
        configuration.queueArguments = ["x-queue-type": .string("quorum")]
        let receiver = RPCReceiver(
            service: Catalog.name,
            on: pool,
            configuration: configuration,
            logger: logger,
            procedures: procedures(products)
        )
        let supervisor = Supervisor("catalog", strategy: .restForOne, logger: logger) {
            pool.supervisor
            receiver.supervisor
            Supervisor("jobs") {
                Child("refresh") { context in
                    PeriodicWorker(context, every: .seconds(30), jitter: 0.2, backoff: Backoff()) { _ in
                        await products.refresh()
                    }
                }
            }
        }
        return (supervisor, receiver)
    }
}

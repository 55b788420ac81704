package import AMQPPool
package import Logging
package import RPCReceiver
package import ShopContract
package import Supervision

/// The products, and what they cost now.
package actor Products {
    private var products: [String: Product] = [
        "tea": Product(id: "tea", name: "A tin of tea", cents: 750),
        "pot": Product(id: "pot", name: "A pot", cents: 3200),
    ]
    package private(set) var refreshes = 0

    package init() {}

    package func find(_ id: String) -> Product? { products[id] }

    /// Where a shop would ask its warehouse.
    package func refresh() { refreshes += 1 }
}

package enum CatalogService {
    package static func procedures(_ products: Products) -> Procedures {
        Procedures {
            Procedure(Catalog.product) { id, _ in
                guard let product = await products.find(id) else {
                    throw RPCFailure(code: Catalog.unknownProduct, message: "there is no product \(id.prefix(50))")
                }
                return product
            }
        }
    }

    /// The service as a tree: the pool first, since the others use it; then what answers, and a job beside it.
    ///
    /// The job has a supervisor of its own: one that fails again and again restarts what is in there, and the receiver answers meanwhile.
    package static func tree(on pool: AMQPPool, logger: Logger) -> (supervisor: Supervisor, receiver: RPCReceiver) {
        let products = Products()
        var configuration = RPCReceiverConfiguration()
        configuration.contract = Catalog.self
        // Replicated, and it counts deliveries: a request that kills whoever runs it is given up in the end.
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

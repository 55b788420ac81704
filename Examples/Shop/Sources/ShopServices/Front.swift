package import AMQPPool
internal import HTTPTypes
package import Hummingbird
package import Logging
package import RPCCaller
internal import ShopContract
package import Supervision

extension Product: ResponseEncodable {}
extension Order: ResponseEncodable {}

/// The HTTP front end.
package enum Front {
    /// The timeout of a customer's request.
    static let timeout = Duration.seconds(5)

    package static func tree(on pool: AMQPPool, logger: Logger) -> (supervisor: Supervisor, caller: RPCCaller) {
        let rpc = RPCCaller(service: "shop-front", on: pool, logger: logger)
        let supervisor = Supervisor("front", strategy: .restForOne, logger: logger) {
            pool.supervisor
            rpc.supervisor
        }
        return (supervisor, rpc)
    }

    package static func addRoutes<Context: RequestContext>(_ rpc: RPCCaller, to router: some RouterMethods<Context>) {
        router.get("products/{id}") { _, context -> Product in
            let id = try context.parameters.require("id")
            return try await answering { () async throws(RPCError) in
                // The call changes nothing, so it may be sent again.
                try await rpc.call(Catalog.self, Catalog.product, id, timeout: timeout, retry: .idempotent())
            }
        }
        router.post("orders") { request, context -> Order in
            let order = try await request.decode(as: NewOrder.self, context: context)
            return try await answering { () async throws(RPCError) in
                // The order has an id, so placing it twice has the effect of placing it once: this call may be sent again too.
                try await rpc.call(Orders.self, Orders.place, order, timeout: timeout, retry: .idempotent())
            }
        }
    }

    /// For a load balancer and for Kubernetes. An outage of the broker makes a process not ready, but is no reason to restart it.
    package static func addProbes<Context: RequestContext>(
        of parts: [any HealthReporting],
        to router: some RouterMethods<Context>
    ) {
        router.get("live") { _, _ in
            let health = Health(of: parts)
            return EditedResponse(status: health.isLive ? .ok : .serviceUnavailable, response: "\(health)\n")
        }
        router.get("ready") { _, _ in
            let health = Health(of: parts)
            return EditedResponse(status: health.isReady ? .ok : .serviceUnavailable, response: "\(health)\n")
        }
    }

    /// Maps an error of a call to HTTP.
    package static func answering<Value>(_ call: () async throws(RPCError) -> Value) async throws(HTTPError) -> Value {
        do throws(RPCError) {
            return try await call()
        } catch {
            switch error {
            case .remote(let failure) where failure.code == Catalog.unknownProduct:
                throw HTTPError(.notFound, message: failure.message)
            case .remote(let failure) where failure.code == Orders.invalidOrder:
                throw HTTPError(.badRequest, message: failure.message)
            case .timeout: throw HTTPError(.gatewayTimeout, message: "there was no answer in time")
            // Nothing was processed: the client may try again.
            case _ where !error.requestMayHaveBeenProcessed:
                throw HTTPError(.serviceUnavailable, message: "not now; nothing was done")
            // The details go to the log, not to the client.
            case _: throw HTTPError(.badGateway, message: "it may have been done, or not")
            }
        }
    }
}

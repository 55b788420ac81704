import AMQPPool
import RPCCaller
import RPCReceiver

// snippet.caller
/// Adds the tenant to each request.
struct Tenant: RPCCallerInterceptor {
    let name: String

    func intercept(_ request: RPCRequest, next: RPCCallerNext) async throws(RPCError) -> RPCReply {
        var request = request
        request.headers["tenant"] = .string(name)
        return try await next(request)
    }
}
// snippet.end

// snippet.receiver
/// Refuses requests without a tenant.
struct RequireTenant: RPCReceiverInterceptor {
    func intercept(_ request: RPCRequest, _ context: RPCContext, next: RPCReceiverNext) async throws -> RPCReply {
        guard case .string = request.headers["tenant"] else {
            throw RPCFailure(code: "forbidden", message: "the request names no tenant")
        }
        return try await next(request, context)
    }
}
// snippet.end

// snippet.configuration
var calling = RPCCallerConfiguration(endpoints: ["amqp://guest:guest@127.0.0.1:5672"])
calling.interceptors = [Tenant(name: "blue")]
let rpc = RPCCaller(service: "checkout", configuration: calling)

var receiving = RPCReceiverConfiguration(endpoints: ["amqp://guest:guest@127.0.0.1:5672"])
receiving.interceptors = [RequireTenant()]
// snippet.end
print(rpc.service, receiving.interceptors.count)

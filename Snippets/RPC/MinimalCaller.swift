import RPCCaller

let rpc = RPCCaller(service: "checkout", endpoints: ["amqp://guest:guest@127.0.0.1:5672"])
try await rpc.start()
do throws(RPCError) {
    let sum: Int = try await rpc.call("math", "add", [4, 9], timeout: .seconds(5))
    print(sum)
} catch {
    print("\(error); may have been processed: \(error.requestMayHaveBeenProcessed)")
}
await rpc.stop()

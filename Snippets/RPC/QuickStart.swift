//! A call, with a private broker.

import AMQPPool
import LocalBroker
import RPCCaller
import RPCReceiver

// A private RabbitMQ on a loopback port; it ends with this process.
let broker = try await LocalBroker.start()
let endpoints = [try Endpoint(url: broker.url)]

let receiver = RPCReceiver(service: "math", endpoints: endpoints) {
    RPCHandler("add") { (numbers: [Int], _) in numbers.reduce(0, +) }
}
try await receiver.start()
try await receiver.waitUntilReady()

let rpc = RPCCaller(service: "checkout", endpoints: endpoints)
try await rpc.start()
let sum: Int = try await rpc.call("math", "add", [4, 9], timeout: .seconds(5))
print(sum)
print(rpc.tree())

await rpc.stop()
await receiver.stop()
await broker.shutdown()

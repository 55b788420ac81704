//! Showing trees, calls and connections live in a browser.

#if Observer
// snippet.minimal
import Logging
import RPCReceiver
import ServiceLifecycle
import SupervisionObserver

let receiver = RPCReceiver(service: "math", endpoints: ["amqp://guest:guest@127.0.0.1:5672"]) {
    RPCHandler("add") { (numbers: [Int], _) in numbers.reduce(0, +) }
}
let observer = Observer(receivers: [receiver])
let logger = Logger(label: "math")
try await ServiceGroup(services: [receiver, observer], gracefulShutdownSignals: [.sigterm], logger: logger).run()
// snippet.end
#else
print("build with --traits Observer")
#endif

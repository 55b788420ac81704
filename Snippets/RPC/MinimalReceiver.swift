import Logging
import RPCReceiver
import ServiceLifecycle

let receiver = RPCReceiver(service: "math", endpoints: ["amqp://guest:guest@127.0.0.1:5672"], concurrency: 10) {
    RPCHandler("add") { (numbers: [Int], _) in numbers.reduce(0, +) }
    RPCHandler("half") { (number: Int, _) in
        guard number.isMultiple(of: 2) else { throw RPCFailure(code: "odd", message: "\(number) is odd") }
        return number / 2
    }
}
let logger = Logger(label: "math")
try await ServiceGroup(services: [receiver], gracefulShutdownSignals: [.sigterm, .sigint], logger: logger).run()

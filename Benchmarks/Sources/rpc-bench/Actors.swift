import AMQPPool
import BenchmarkContracts
import Distributed
import RPCActors
import RPCCaller
import RPCReceiver
import Supervision

distributed actor Echo: Echoing {
    typealias ActorSystem = RPCActorSystem
    distributed func echo(_ text: String) -> String { text }
}

extension Connecting {
    /// A system with the same connections as a caller or receiver of the other modes.
    func actors(_ service: String, @ExportsBuilder exports: () -> [Export] = { [] }) throws -> RPCActorSystem {
        var configuration = RPCActorConfiguration(endpoints: try endpoints())
        configure(&configuration.pool)
        configuration.caller.pool.channelsPerConnection = configuration.pool.channelsPerConnection
        configuration.receiver.pool.channelsPerConnection = configuration.pool.channelsPerConnection
        configuration.receiver.concurrency = 256
        return RPCActorSystem(service: service, configuration: configuration, logger: logger, exports: exports)
    }
}

public import Logging
public import RPCCaller
public import RPCReceiver
import RPCWire

extension RPCCaller {
    /// A caller whose requests go to these receivers without a broker: for unit tests of code that makes calls, and of procedures.
    ///
    ///     let rpc = RPCCaller.inProcess(["math": RPCHandlers { RPCHandler(Math.add) { n, _ in n.reduce(0, +) } }])
    ///     #expect(try await rpc.call("math", Math.add, [4, 9]) == 13)
    ///
    /// Everything except AMQP behaves as over the wire, because it is the same code: arguments and results are encoded and decoded, content
    /// types checked, AMQP's limits on names, headers and sizes enforced, interceptors run, errors answered with their codes, deadlines
    /// enforced on both sides and inherited by nested calls, and handlers run as separate tasks. A service that does not exist is
    /// `RPCError.unroutable(destination:)`. Failures of a broker do not occur: nothing is lost, delivered twice or blocked, and requests
    /// never expire in a queue. To test such failures, throw their errors in an interceptor.
    ///
    /// Names that are invalid with a broker are invalid here too: a service with a name, or a queue name, that is too long does not exist
    /// (and the log says why), and a caller with such a name is not connected.
    ///
    /// The timeout of a call is a minute, unless `configure` or the call sets another. `RPCCaller.start()` is not needed.
    ///
    /// - Parameters:
    ///   - services: The procedures, by service name.
    ///   - service: The name of the calling service.
    ///   - logger: The logger of both sides.
    ///   - configure: Changes the caller's settings, for example its interceptors and its timeout.
    public static func inProcess(
        _ services: [String: RPCHandlers],
        service: String = "test",
        logger: Logger? = nil,
        configure: (inout RPCCallerConfiguration) -> Void = { _ in }
    ) -> RPCCaller {
        let receivers = services.map { name, procedures in
            RPCReceiver(
                service: name,
                configuration: RPCReceiverConfiguration(endpoints: []),
                logger: logger,
                procedures: procedures
            )
        }
        return inProcess(receivers: receivers, service: service, logger: logger, configure: configure)
    }

    /// A caller whose requests go to these receivers without a broker, like ``inProcess(_:service:logger:configure:)``, but with the
    /// receivers' own settings: interceptors, concurrency, limits, failure policy. The receivers need not be started.
    public static func inProcess(
        receivers: [RPCReceiver],
        service: String = "test",
        logger: Logger? = nil,
        configure: (inout RPCCallerConfiguration) -> Void = { _ in }
    ) -> RPCCaller {
        var configuration = RPCCallerConfiguration(endpoints: [])
        // A machine that runs many tests concurrently may be busy for longer than the default timeout.
        configuration.timeout = .seconds(60)
        configure(&configuration)
        let wire = InProcessWire(
            receivers,
            caller: service,
            configuration: configuration,
            logger: logger ?? Logger(label: "rpc.testing")
        )
        return RPCCaller(service: service, configuration: configuration, logger: logger, wire: wire)
    }
}

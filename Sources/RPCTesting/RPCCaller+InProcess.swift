public import Logging
public import RPCCaller
public import RPCReceiver
import RPCWire

extension RPCCaller {
    /// A caller whose requests go to these receivers without a broker: for unit tests of code that makes calls, and of procedures.
    ///
    ///     let rpc = RPCCaller.inProcess(["math": Procedures { Procedure(Math.add) { n, _ in n.reduce(0, +) } }])
    ///     #expect(try await rpc.call("math", Math.add, [4, 9]) == 13)
    ///
    /// Everything but AMQP is as it is over the wire, because it is the same code: arguments and results are encoded and decoded, content
    /// types checked, names, headers and sizes held to AMQP's limits, interceptors run, errors answered with their codes, deadlines kept on both sides and inherited by nested calls,
    /// handlers run as tasks of their own. A service that is not there is `RPCError.unroutable(destination:)`. What needs a
    /// broker does not happen: nothing is lost, delivered twice or blocked, and requests never expire in a queue. To see how code bears
    /// such errors, throw them in an interceptor.
    ///
    /// What would not start with a broker does not work here either: a service whose name, or whose queue's, is too long is not there
    /// (and the log says why), and a caller of such a name is not connected.
    ///
    /// A call has a minute, unless `configure` or the call says otherwise. It needs no `RPCCaller.start()`.
    ///
    /// - Parameters:
    ///   - services: What answers, by the names that calls use.
    ///   - service: The name of the calling service.
    ///   - logger: For both sides.
    ///   - configure: Changes the caller's settings, such as its interceptors and its timeout.
    public static func inProcess(
        _ services: [String: Procedures],
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

    /// A caller whose requests go to these receivers without a broker, as ``inProcess(_:service:logger:configure:)`` has it, with the
    /// receivers' own settings: interceptors, concurrency, limits, what becomes of failures. The receivers are not started for it.
    public static func inProcess(
        receivers: [RPCReceiver],
        service: String = "test",
        logger: Logger? = nil,
        configure: (inout RPCCallerConfiguration) -> Void = { _ in }
    ) -> RPCCaller {
        var configuration = RPCCallerConfiguration(endpoints: [])
        // A machine that runs many tests at once may be busy for longer than a service's callers wait.
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

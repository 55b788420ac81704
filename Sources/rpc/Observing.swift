import AMQPPool
import ArgumentParser
import Logging
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionObserver

/// The options for serving an observer page.
struct ObserveOptions: ParsableArguments {
    static let defaultAddress = "127.0.0.1:9570"

    @Option(
        name: .customLong("observe"),
        defaultAsFlag: ObserveOptions.defaultAddress,
        help: ArgumentHelp(
            "Serve a page that shows the trees, calls and connections live. Default: \(ObserveOptions.defaultAddress); port 0 has the system choose one.",
            valueName: "host:port"
        )
    )
    var address: String?

    @Option(
        name: .customLong("observe-token"),
        help: ArgumentHelp(
            "With this token, of at least 16 bytes, viewers may kill, restart and terminate processes. The variable RPC_OBSERVE_TOKEN keeps it out of the list of processes.",
            valueName: "token"
        )
    )
    var token: String?

    func validate() throws {
        _ = try hostAndPort()
        if let token, token.utf8.count < 16 { throw ValidationError("--observe-token needs at least 16 bytes") }
        if token != nil, address == nil { throw ValidationError("--observe-token needs --observe") }
        #if !Observer
        if address != nil {
            throw ValidationError(
                "this rpc was built without the observer: build it with swift build --traits Observer"
            )
        }
        #endif
    }

    private func hostAndPort() throws -> (host: String, port: Int)? {
        guard let address else { return nil }
        guard let colon = address.lastIndex(of: ":"), let port = Int(address[address.index(after: colon)...]),
            (0...65_535).contains(port)
        else { throw ValidationError("--observe takes HOST:PORT, such as \(Self.defaultAddress), not '\(address)'") }
        var host = address[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty else { throw ValidationError("--observe takes HOST:PORT, such as \(Self.defaultAddress)") }
        return (String(host), port)
    }

    /// Serves the observer page while the body runs. Without `--observe` only the body runs.
    func observing(
        trees: [Supervisor] = [],
        callers: [RPCCaller] = [],
        receivers: [RPCReceiver] = [],
        pools: [AMQPPool] = [],
        killMatrix: [Supervisor] = [],
        logger: Logger,
        _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        #if Observer
        guard let (host, port) = try hostAndPort() else { return try await body() }
        var configuration = ObserverConfiguration()
        configuration.host = host
        configuration.port = port
        if let token = token ?? Environment.value("RPC_OBSERVE_TOKEN"), !token.isEmpty {
            configuration.permission = .actions(token)
        }
        let observer = Observer(
            trees: trees,
            callers: callers,
            receivers: receivers,
            pools: pools,
            killMatrix: killMatrix,
            configuration: configuration,
            logger: logger
        )
        do {
            try await withThrowingTaskGroup(of: Bool.self) { group in
                group.addTask {
                    try await observer.run()
                    return false
                }
                group.addTask {
                    if let url = await observer.url() { Environment.writeError("observer: \(url)") }
                    try await body()
                    return true
                }
                defer { group.cancelAll() }
                while let isBody = try await group.next(), !isBody {}
            }
        } catch let error as ObserverError {
            Environment.writeError("rpc: \(error)")
            throw ExitCode.failure
        }
        #else
        try await body()
        #endif
    }
}

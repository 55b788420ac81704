/// What can be asked of a running broker, and done to it. Each is answered in milliseconds by the node itself, but for the
/// making and deleting of virtual hosts, which takes it 50 to 150.
///
/// All throw `notRunning`, `shutDown`, `requestTimedOut`, `requestFailed` with the broker's words, and `cancelled`.
extension LocalBroker {
    // MARK: Virtual hosts

    /// Makes a virtual host in which the user `guest` may do everything.
    public func createVirtualHost(_ name: String) async throws(LocalBrokerError) {
        _ = try await request("create-virtual-host", ["name": .text(name)], as: Bool.self)
    }

    /// Deletes a virtual host and all that is in it. Its connections are closed by the broker.
    public func deleteVirtualHost(_ name: String) async throws(LocalBrokerError) {
        _ = try await request("delete-virtual-host", ["name": .text(name)], as: Bool.self)
    }

    /// The names of the virtual hosts.
    public func virtualHosts() async throws(LocalBrokerError) -> [String] {
        try await request("virtual-hosts")
    }

    // MARK: Users

    /// Makes a user who may do everything in one virtual host, or what patterns say.
    ///
    /// - Parameters:
    ///   - name: The user's name.
    ///   - password: The user's password.
    ///   - virtualHost: The one virtual host that the user may open.
    ///   - configure: A regular expression: what the user may declare and delete.
    ///   - write: What the user may publish to; the default exchange is called `amq.default`.
    ///   - read: What the user may consume.
    public func createUser(
        _ name: String,
        password: String,
        virtualHost: String = "/",
        configure: String = ".*",
        write: String = ".*",
        read: String = ".*"
    ) async throws(LocalBrokerError) {
        let arguments: [String: ControlArgument] = [
            "name": .text(name), "password": .text(password), "virtual-host": .text(virtualHost),
        ]
        _ = try await request("create-user", arguments, as: Bool.self)
        try await setPermissions(
            of: name,
            virtualHost: virtualHost,
            configure: configure,
            write: write,
            read: read
        )
    }

    /// Changes what a user may do in a virtual host. Channels that are open learn of it within a moment, or when they are opened
    /// again: the broker remembers what it has allowed.
    public func setPermissions(
        of user: String,
        virtualHost: String = "/",
        configure: String = ".*",
        write: String = ".*",
        read: String = ".*"
    ) async throws(LocalBrokerError) {
        let arguments: [String: ControlArgument] = [
            "name": .text(user), "virtual-host": .text(virtualHost), "configure": .text(configure),
            "write": .text(write), "read": .text(read),
        ]
        _ = try await request("set-permissions", arguments, as: Bool.self)
    }

    // MARK: What is there

    /// The queues of a virtual host.
    public func queues(virtualHost: String = "/") async throws(LocalBrokerError) -> [QueueInfo] {
        try await request("queues", ["virtual-host": .text(virtualHost)])
    }

    /// One queue; nil if there is none of that name.
    public func queue(_ name: String, virtualHost: String = "/") async throws(LocalBrokerError) -> QueueInfo? {
        try await queues(virtualHost: virtualHost).first { $0.name == name }
    }

    /// The consumers of a virtual host.
    public func consumers(virtualHost: String = "/") async throws(LocalBrokerError) -> [ConsumerInfo] {
        try await request("consumers", ["virtual-host": .text(virtualHost)])
    }

    /// The exchanges of a virtual host, the predeclared ones included.
    public func exchanges(virtualHost: String = "/") async throws(LocalBrokerError) -> [ExchangeInfo] {
        try await request("exchanges", ["virtual-host": .text(virtualHost)])
    }

    /// The bindings of a virtual host, those of every queue to the default exchange included.
    public func bindings(virtualHost: String = "/") async throws(LocalBrokerError) -> [BindingInfo] {
        try await request("bindings", ["virtual-host": .text(virtualHost)])
    }

    /// The open connections, of one virtual host or of all.
    public func connections(virtualHost: String? = nil) async throws(LocalBrokerError) -> [ConnectionInfo] {
        let all = try await request("connections", as: [ConnectionInfo].self)
        return all.filter { virtualHost == nil || $0.virtualHost == virtualHost }
    }

    /// The open channels, of one virtual host or of all.
    ///
    /// Their counts are taken at this moment; a channel whose connection is blocked answers nevertheless.
    public func channels(virtualHost: String? = nil) async throws(LocalBrokerError) -> [ChannelInfo] {
        let all = try await request("channels", as: [ChannelInfo].self)
        return all.filter { virtualHost == nil || $0.virtualHost == virtualHost }
    }

    // MARK: What can happen to a client

    /// Declares a queue, as another client could; does nothing to one that is there.
    public func declareQueue(
        _ name: String,
        durable: Bool = true,
        virtualHost: String = "/"
    ) async throws(LocalBrokerError) {
        let arguments: [String: ControlArgument] = [
            "virtual-host": .text(virtualHost), "name": .text(name), "durable": .bool(durable),
        ]
        _ = try await request("declare-queue", arguments, as: Bool.self)
    }

    /// Deletes a queue, as another client could: its consumers get a basic.cancel.
    public func deleteQueue(_ name: String, virtualHost: String = "/") async throws(LocalBrokerError) {
        _ = try await request("delete-queue", ["virtual-host": .text(virtualHost), "name": .text(name)], as: Bool.self)
    }

    /// Has the broker close a connection, as an operator would: the client gets a connection.close with code 320.
    ///
    /// It is named by ``ConnectionInfo/name``; `reason` is what the client is told.
    public func closeConnection(
        _ name: String,
        reason: String = "closed by the operator"
    ) async throws(LocalBrokerError) {
        _ = try await request("close-connection", ["name": .text(name), "reason": .text(reason)], as: Bool.self)
    }

    /// Has the broker drop the TCP connection without a word of AMQP: to the client, the network failed.
    ///
    /// It is named by ``ConnectionInfo/name``.
    public func dropConnection(_ name: String) async throws(LocalBrokerError) {
        _ = try await request("drop-connection", ["name": .text(name)], as: Bool.self)
    }

    /// Has the broker close a channel because of an error, as when its client had acknowledged what was never delivered: the client
    /// gets a channel.close with code 406 (precondition failed).
    ///
    /// It is named by ``ChannelInfo/number`` and ``ChannelInfo/connection``.
    public func closeChannel(_ number: Int, of connection: String) async throws(LocalBrokerError) {
        let arguments: [String: ControlArgument] = ["connection": .text(connection), "number": .number(number)]
        _ = try await request("close-channel", arguments, as: Bool.self)
    }

    /// Sets or clears the memory alarm. While it is set, every connection that publishes is blocked.
    public func setMemoryAlarm(_ set: Bool) async throws(LocalBrokerError) {
        _ = try await request("memory-alarm", ["set": .bool(set)], as: Bool.self)
    }

    /// A limit that an operator can set on a virtual host.
    public enum VirtualHostLimit: String, Sendable, CaseIterable {
        /// How many connections may be open: one more is refused with 530 (not allowed).
        case connections = "max-connections"
        /// How many queues may exist: the declaration of one more is refused with 406 (precondition failed).
        case queues = "max-queues"
    }

    /// Limits a virtual host; nil takes the limits off again.
    public func setLimit(
        _ limit: VirtualHostLimit,
        _ value: Int?,
        virtualHost: String = "/"
    ) async throws(LocalBrokerError) {
        try await setLimit(limit.rawValue, value, of: virtualHost, command: "limit-virtual-host")
    }

    /// A limit that an operator can set on a user.
    public enum UserLimit: String, Sendable, CaseIterable {
        /// How many connections may be open: one more is refused with 530 (not allowed).
        case connections = "max-connections"
        /// How many channels may be open: the opening of one more closes its connection with 530 (not allowed).
        case channels = "max-channels"
    }

    /// Limits a user; nil takes the limit off again.
    public func setLimit(_ limit: UserLimit, _ value: Int?, user: String) async throws(LocalBrokerError) {
        try await setLimit(limit.rawValue, value, of: user, command: "limit-user")
    }

    private func setLimit(
        _ limit: String,
        _ value: Int?,
        of name: String,
        command: String
    ) async throws(LocalBrokerError) {
        let arguments: [String: ControlArgument] = [
            "name": .text(name), "limit": .text(limit), "value": .number(value ?? -1),
        ]
        _ = try await request(command, arguments, as: Bool.self)
    }

    /// Puts the node into maintenance mode, as `rabbitmq-upgrade drain` does before an upgrade, or takes it out of it: the listeners
    /// are closed, and all connections with code 320.
    public func setMaintenance(_ set: Bool) async throws(LocalBrokerError) {
        _ = try await request("maintenance", ["set": .bool(set)], as: Bool.self)
    }
}

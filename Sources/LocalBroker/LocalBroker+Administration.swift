/// Queries and changes of a running broker. The node answers each in milliseconds, except the creation and deletion of virtual hosts, which
/// takes 50 to 150.
///
/// All throw `notRunning`, `shutDown`, `requestTimedOut`, `requestFailed` with the broker's text, and `cancelled`.
extension LocalBroker {
    // MARK: Virtual hosts

    /// Creates a virtual host with all permissions for the user `guest`.
    public func createVirtualHost(_ name: String) async throws(LocalBrokerError) {
        _ = try await request("create-virtual-host", ["name": .text(name)], as: Bool.self)
    }

    /// Deletes a virtual host and everything in it. The broker closes its connections.
    public func deleteVirtualHost(_ name: String) async throws(LocalBrokerError) {
        _ = try await request("delete-virtual-host", ["name": .text(name)], as: Bool.self)
    }

    /// The names of the virtual hosts.
    package func virtualHosts() async throws(LocalBrokerError) -> [String] {
        try await request("virtual-hosts")
    }

    // MARK: Users

    /// Creates a user with permissions in one virtual host: all, or according to patterns.
    ///
    /// - Parameters:
    ///   - name: The user's name.
    ///   - password: The user's password.
    ///   - virtualHost: The only virtual host of the user.
    ///   - configure: A regular expression: what the user may declare and delete.
    ///   - write: A regular expression: what the user may publish to; the default exchange is called `amq.default`.
    ///   - read: A regular expression: what the user may consume.
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

    /// Changes the permissions of a user in a virtual host. Open channels are affected after a moment, or when they are reopened, because
    /// the broker caches permissions.
    package func setPermissions(
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

    // MARK: Listings

    /// The queues of a virtual host.
    public func queues(virtualHost: String = "/") async throws(LocalBrokerError) -> [QueueInfo] {
        try await request("queues", ["virtual-host": .text(virtualHost)])
    }

    /// A queue; `nil` if it does not exist.
    public func queue(_ name: String, virtualHost: String = "/") async throws(LocalBrokerError) -> QueueInfo? {
        try await queues(virtualHost: virtualHost).first { $0.name == name }
    }

    /// The empty classic queues whose messages RabbitMQ does not mark as redelivered any more, by its own account: 3.10 to 4.2 do not in a
    /// queue that lost a waiting message in a graceful restart, until the node is killed or the queue declared anew.
    package func queuesWithoutMarks(virtualHost: String = "/") async throws(LocalBrokerError) -> [String] {
        try await request("queues-without-marks", ["virtual-host": .text(virtualHost)])
    }

    /// The consumers of a virtual host.
    public func consumers(virtualHost: String = "/") async throws(LocalBrokerError) -> [ConsumerInfo] {
        try await request("consumers", ["virtual-host": .text(virtualHost)])
    }

    /// The exchanges of a virtual host, including the predeclared ones.
    package func exchanges(virtualHost: String = "/") async throws(LocalBrokerError) -> [ExchangeInfo] {
        try await request("exchanges", ["virtual-host": .text(virtualHost)])
    }

    /// The bindings of a virtual host, including those of every queue to the default exchange.
    package func bindings(virtualHost: String = "/") async throws(LocalBrokerError) -> [BindingInfo] {
        try await request("bindings", ["virtual-host": .text(virtualHost)])
    }

    /// The open connections of one virtual host, or of all.
    public func connections(virtualHost: String? = nil) async throws(LocalBrokerError) -> [ConnectionInfo] {
        let all = try await request("connections", as: [ConnectionInfo].self)
        return all.filter { virtualHost == nil || $0.virtualHost == virtualHost }
    }

    /// The open channels of one virtual host, or of all.
    ///
    /// The counts are current; a channel on a blocked connection is included.
    public func channels(virtualHost: String? = nil) async throws(LocalBrokerError) -> [ChannelInfo] {
        let all = try await request("channels", as: [ChannelInfo].self)
        return all.filter { virtualHost == nil || $0.virtualHost == virtualHost }
    }

    // MARK: Faults of clients

    /// Declares a queue, as another client would; does nothing if it exists.
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

    /// Deletes a queue, as another client would: its consumers receive a basic.cancel.
    public func deleteQueue(_ name: String, virtualHost: String = "/") async throws(LocalBrokerError) {
        _ = try await request("delete-queue", ["virtual-host": .text(virtualHost), "name": .text(name)], as: Bool.self)
    }

    /// Makes the broker close a connection, as an operator would: the client receives a connection.close with code 320.
    ///
    /// `name` is the ``ConnectionInfo/name``; `reason` is sent to the client.
    public func closeConnection(
        _ name: String,
        reason: String = "closed by the operator"
    ) async throws(LocalBrokerError) {
        _ = try await request("close-connection", ["name": .text(name), "reason": .text(reason)], as: Bool.self)
    }

    /// Makes the broker drop a TCP connection without a closing handshake: to the client, the network failed.
    ///
    /// `name` is the ``ConnectionInfo/name``.
    public func dropConnection(_ name: String) async throws(LocalBrokerError) {
        _ = try await request("drop-connection", ["name": .text(name)], as: Bool.self)
    }

    /// Makes the broker close a channel because of an error, as if its client had acknowledged an unknown delivery: the client receives a
    /// channel.close with code 406 (precondition failed).
    ///
    /// The channel is identified by ``ChannelInfo/number`` and ``ChannelInfo/connection``.
    public func closeChannel(_ number: Int, of connection: String) async throws(LocalBrokerError) {
        let arguments: [String: ControlArgument] = ["connection": .text(connection), "number": .number(number)]
        _ = try await request("close-channel", arguments, as: Bool.self)
    }

    /// Sets or clears the memory alarm. While it is set, every connection that publishes is blocked.
    public func setMemoryAlarm(_ set: Bool) async throws(LocalBrokerError) {
        _ = try await request("memory-alarm", ["set": .bool(set)], as: Bool.self)
    }

    /// A limit that an operator can set on a virtual host.
    package enum VirtualHostLimit: String, Sendable, CaseIterable {
        /// The maximum number of connections: further ones are refused with 530 (not allowed).
        case connections = "max-connections"
        /// The maximum number of queues: further declarations are refused with 406 (precondition failed).
        case queues = "max-queues"
    }

    /// Limits a virtual host; `nil` removes the limit.
    package func setLimit(
        _ limit: VirtualHostLimit,
        _ value: Int?,
        virtualHost: String = "/"
    ) async throws(LocalBrokerError) {
        try await setLimit(limit.rawValue, value, of: virtualHost, command: "limit-virtual-host")
    }

    /// A limit that an operator can set on a user.
    package enum UserLimit: String, Sendable, CaseIterable {
        /// The maximum number of connections: further ones are refused with 530 (not allowed).
        case connections = "max-connections"
        /// The maximum number of channels: opening another one closes its connection with 530 (not allowed).
        case channels = "max-channels"
    }

    /// Limits a user; `nil` removes the limit.
    package func setLimit(_ limit: UserLimit, _ value: Int?, user: String) async throws(LocalBrokerError) {
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

    /// Puts the node into maintenance mode, as `rabbitmq-upgrade drain` does before an upgrade, or ends it: closes the listeners, and all
    /// connections with code 320.
    package func setMaintenance(_ set: Bool) async throws(LocalBrokerError) {
        _ = try await request("maintenance", ["set": .bool(set)], as: Bool.self)
    }
}

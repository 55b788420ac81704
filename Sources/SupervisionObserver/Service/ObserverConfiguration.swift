/// The settings of an observer.
public struct ObserverConfiguration: Sendable {
    /// The address to listen on; by default, only that of this machine. Everybody who can reach it can view the page.
    public var host: String
    /// The port; 0 for a free one.
    public var port: Int
    /// The host names under which the page may be opened, besides addresses and `localhost`: a request under another name is refused (DNS
    /// rebinding).
    public var allowedHosts: [String]
    /// What viewers may do.
    public var permission: ObserverPermission
    /// How much of the errors in exit reasons is shown.
    public var shownErrors: ShownErrors
    /// The maximum number of viewers; further ones are told to come back later.
    public var maximumViewers: Int
    /// The maximum number of open connections.
    public var maximumConnections: Int
    /// How long calls are still counted after the last viewer has gone, so that a reload shows the last minute.
    var statisticsGrace = Duration.seconds(60)

    /// Creates a configuration. Each parameter sets the property of its name.
    public init(
        host: String = "127.0.0.1",
        port: Int = 9570,
        allowedHosts: [String] = [],
        permission: ObserverPermission = ObserverPermission.reading,
        shownErrors: ShownErrors = ShownErrors.text,
        maximumViewers: Int = 32,
        maximumConnections: Int = 128
    ) {
        self.host = host
        self.port = port
        self.allowedHosts = allowedHosts
        self.permission = permission
        self.shownErrors = shownErrors
        self.maximumViewers = maximumViewers
        self.maximumConnections = maximumConnections
    }
}

/// Why an observer could not be started.
public enum ObserverError: Error, Sendable, Hashable, CustomStringConvertible {
    /// A setting is invalid; the text says what to change.
    case invalidConfiguration(String)
    /// The address cannot be listened on; the text says why.
    case cannotListen(address: String, reason: String)

    /// The error in one line, with the remedy.
    public var description: String {
        switch self {
        case .invalidConfiguration(let problem): problem
        case .cannotListen(let address, let reason): "the observer cannot listen on \(address): \(reason)"
        }
    }
}

extension ObserverConfiguration {
    /// The first problem with the settings, `nil` if they are valid.
    var problem: String? {
        if let problem = permission.problem { return problem }
        if host.isEmpty { return "the observer's host must not be empty: 127.0.0.1 is this machine" }
        if !(0...65_535).contains(port) { return "the observer's port must be 0 to 65535, but is \(port)" }
        if maximumViewers < 1 { return "maximumViewers must be at least 1, but is \(maximumViewers)" }
        if maximumConnections < maximumViewers {
            return "maximumConnections (\(maximumConnections)) must not be less than maximumViewers (\(maximumViewers))"
        }
        return nil
    }

    /// The host names under which the page may be opened.
    var hosts: [String] { allowedHosts + [host] }
}

/// How an observer serves its page.
public struct ObserverConfiguration: Sendable {
    /// The address to listen on: that of this machine only, unless it is changed. Whoever can reach it can look.
    public var host: String
    /// The port; 0 has the system choose a free one.
    public var port: Int
    /// The names under which the page may be opened, besides addresses and `localhost`: a browser that was led here by another name
    /// is refused (DNS rebinding).
    public var allowedHosts: [String]
    /// What those who look may do.
    public var permission: ObserverPermission
    /// How much of the errors that processes end with is shown.
    public var shownErrors: ShownErrors
    /// How many may look at once; one more is told to come back later.
    public var maximumViewers: Int
    /// How many connections may be open at once.
    public var maximumConnections: Int
    /// For how long calls are counted after the last viewer has gone, so that who loads the page again finds the last minute's numbers.
    var statisticsGrace = Duration.seconds(60)

    /// The defaults where nothing else is given. Each parameter is the property of its name.
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
    /// A setting that cannot be right; the text says what to change.
    case invalidConfiguration(String)
    /// The address cannot be listened on; the text says why.
    case cannotListen(address: String, reason: String)

    /// One line that says what to do.
    public var description: String {
        switch self {
        case .invalidConfiguration(let problem): problem
        case .cannotListen(let address, let reason): "the observer cannot listen on \(address): \(reason)"
        }
    }
}

extension ObserverConfiguration {
    /// What is wrong with the settings, if anything.
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

    /// The names that the page may be opened under.
    var hosts: [String] { allowedHosts + [host] }
}

import Foundation

/// The location of RabbitMQ's own start script.
///
/// Debian's `/usr/sbin/rabbitmq-server` is not it: started by root, that wrapper switches to the user `rabbitmq`, with the cookie and
/// folders of the system's broker. The script under `/usr/lib/rabbitmq/bin` keeps the user.
struct Installation: Sendable, Equatable {
    /// The environment variable with the path of a `rabbitmq-server` to use.
    static let override = "LOCAL_BROKER_RABBITMQ_SERVER"

    /// The default locations: Debian and Ubuntu, generic Unix, Homebrew on Apple silicon and Intel, the official image.
    static let usualPlaces = [
        "/usr/lib/rabbitmq/bin/rabbitmq-server",
        "/usr/local/sbin/rabbitmq-server",
        "/opt/homebrew/sbin/rabbitmq-server",
        "/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",
        "/usr/local/opt/rabbitmq/sbin/rabbitmq-server",
        "/opt/rabbitmq/sbin/rabbitmq-server",
    ]

    let server: String

    /// - Throws: ``LocalBrokerError/notInstalled(searched:)``.
    static func find(
        environment: [String: String] = ProcessInfo.processInfo.environment,
        isExecutable: (String) -> Bool = { FileManager.default.isExecutableFile(atPath: $0) },
        resolve: (String) -> String = { URL(fileURLWithPath: $0).resolvingSymlinksInPath().path }
    ) throws(LocalBrokerError) -> Installation {
        if let chosen = environment[override], !chosen.isEmpty {
            guard isExecutable(chosen) else { throw .notInstalled(searched: [chosen]) }
            return Installation(server: chosen)
        }
        let onPath = (environment["PATH"] ?? "").split(separator: ":").map { "\($0)/rabbitmq-server" }
        let candidates = usualPlaces + onPath.filter { !usualPlaces.contains($0) }
        for candidate in candidates where isExecutable(candidate) {
            if resolve(candidate).hasSuffix("/rabbitmq-script-wrapper") { continue }
            return Installation(server: candidate)
        }
        throw .notInstalled(searched: usualPlaces + ["PATH"])
    }
}

import Foundation

/// Where RabbitMQ's own start script is on this machine.
///
/// Debian's `/usr/sbin/rabbitmq-server` is not it: as root that wrapper becomes the user `rabbitmq`, with the cookie and
/// the folders of the system's broker. The script under `/usr/lib/rabbitmq/bin` stays who it is.
struct Installation: Sendable, Equatable {
    /// The variable that names a `rabbitmq-server` to be used in place of the ones found.
    static let override = "LOCAL_BROKER_RABBITMQ_SERVER"

    /// The usual places: Debian and Ubuntu, generic Unix, Homebrew on Apple silicon and Intel, the official image.
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

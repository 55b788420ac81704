import Foundation

/// The folder a node lives in: configuration, data, logs, home. Nothing of the node is anywhere else.
struct NodeFolder: Sendable {
    let path: String
    /// How other nodes reach this one; nil for one that is alone.
    let distribution: Distribution?

    /// A name nobody else has. The folder is not made yet.
    init(in parent: String, distribution: Distribution? = nil) {
        self.distribution = distribution
        path = "\(parent)/local-broker-\(UUID().uuidString.lowercased())"
    }

    var data: String { "\(path)/data" }
    var logs: String { "\(path)/log" }
    /// What the node writes to its standard output and error.
    var console: String { "\(logs)/console.log" }
    var configuration: String { "\(path)/rabbitmq.conf" }

    /// Makes the folder, readable by nobody else, and the files a node on this port needs.
    func prepare(
        port: Int,
        plugins: [String],
        additionalConfiguration: String
    ) throws(LocalBrokerError) {
        let private_ = [FileAttributeKey.posixPermissions: 0o700]
        do {
            let files = FileManager.default
            try files.createDirectory(atPath: path, withIntermediateDirectories: false, attributes: private_)
            try files.createDirectory(atPath: logs, withIntermediateDirectories: false, attributes: private_)
            try write(
                """
                listeners.tcp.local = 127.0.0.1:\(port)
                log.file = \(logs)/rabbit.log
                log.file.level = info
                \(distribution?.configuration ?? "")
                \(additionalConfiguration)

                """,
                to: configuration
            )
            try write("[\(plugins.joined(separator: ","))].\n", to: "\(path)/enabled_plugins")
            try write("", to: "\(path)/rabbitmq-env.conf")
            try write(ControlScript.source, to: "\(path)/\(ControlScript.module).erl")
            if let distribution {
                try write(Distribution.source, to: "\(path)/\(Distribution.module).erl")
                // Erlang takes it only from a file that nobody else can read.
                let cookie = "\(path)/.erlang.cookie"
                try write(distribution.cookie, to: cookie)
                try files.setAttributes([.posixPermissions: 0o400], ofItemAtPath: cookie)
            }
        } catch {
            throw .cannotPrepare(path: path, reason: "\(error)")
        }
    }

    /// Removes what the node stored, and keeps the logs.
    func removeData() throws(LocalBrokerError) {
        guard FileManager.default.fileExists(atPath: data) else { return }
        do {
            try FileManager.default.removeItem(atPath: data)
        } catch {
            throw .cannotPrepare(path: data, reason: "\(error)")
        }
    }

    /// The whole environment of the node: what ours holds for another broker must not reach it.
    func environment() -> [String: String] {
        let ours = ProcessInfo.processInfo.environment
        let programs = ["/usr/local/bin", "/opt/homebrew/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        let path = ((ours["PATH"]?.split(separator: ":").map(String.init) ?? []) + programs).joined(separator: ":")
        return [
            "PATH": path,
            "LANG": "C.UTF-8",
            // The Erlang cookie is made here, and read by nobody.
            "HOME": self.path,
            "ERL_CRASH_DUMP_SECONDS": "0",
            // For every other Erlang program that the node may run.
            "ERL_FLAGS": distribution == nil ? "-start_epmd false" : Distribution.flags(folder: self.path),
            "RABBITMQ_NODENAME": distribution?.nodeName ?? Self.nodeName,
            "RABBITMQ_CONF_ENV_FILE": "\(self.path)/rabbitmq-env.conf",
            "RABBITMQ_CONFIG_FILE": configuration,
            "RABBITMQ_ADVANCED_CONFIG_FILE": "\(self.path)/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "\(self.path)/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": data,
            "RABBITMQ_LOG_BASE": logs,
            "RABBITMQ_PID_FILE": "\(self.path)/pid",
            // Has the start script become the node, instead of waiting for it.
            "RABBITMQ_ALLOW_INPUT": "true",
            // We boot RabbitMQ ourselves, after ControlScript.
            "RABBITMQ_NODE_ONLY": "true",
        ]
    }

    /// All nodes that are alone may have the same name: none can be reached by it.
    static let nodeName = "rabbit@localhost"

    /// What Erlang is told. A node that is alone has no distribution, so no epmd: RabbitMQ asks for its own distribution
    /// port while it boots, and `-erl_epmd_port` is the answer without one.
    func arguments() -> [String] {
        let alone = ["-sname", Self.nodeName, "-start_epmd", "false", "-dist_listen", "false", "-erl_epmd_port", "1"]
        let startDistribution = distribution.map { ["-eval", $0.start(folder: path)] } ?? []
        // What is told of a quorum queue (its messages, its consumers) is as old as its last tick, which is otherwise every 5 s.
        var ticks = ["-rabbit", "quorum_tick_interval", "100"]
        // Otherwise it looks once a minute for what has been handled too long.
        if hasConsumerTimeout { ticks += ["-rabbit", "channel_tick_interval", "500"] }
        return ["-noinput"] + (distribution?.arguments ?? alone) + ["+S", "2:2"] + ticks + startDistribution + [
            "-eval", ControlScript.start(sourceFolder: path),
            "-s", "rabbit", "boot",
            "-eval", ControlScript.ready,
        ]
    }

    private var hasConsumerTimeout: Bool {
        FileManager.default.contents(atPath: configuration).map {
            String(decoding: $0, as: UTF8.self).contains("consumer_timeout")
        } ?? false
    }

    /// The end of what the node wrote. Of one that refused to start: the reason it gave, without the crash reports that
    /// follow it.
    func lastLines(_ count: Int = 40) -> String {
        let lines = [console, "\(logs)/rabbit.log"].flatMap { path -> [Substring] in
            let text = FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) } ?? ""
            let lines = text.split(whereSeparator: \.isNewline)
            let reason = lines.firstIndex { $0.contains("Error during startup") }
            return Array(lines.prefix(reason.map { $0 + 1 } ?? lines.count).suffix(count))
        }
        return lines.joined(separator: "\n")
    }

    private func write(_ text: String, to path: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    }
}

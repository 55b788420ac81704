import Foundation

/// The folder of a node: configuration, data, logs, home. The node has no files anywhere else.
struct NodeFolder: Sendable {
    let path: String
    /// How other nodes reach this one; `nil` for a single node.
    let distribution: Distribution?

    /// Chooses a unique name. The folder is not created yet.
    init(in parent: String, distribution: Distribution? = nil) {
        self.distribution = distribution
        path = "\(parent)/local-broker-\(UUID().uuidString.lowercased())"
    }

    var data: String { "\(path)/data" }
    var logs: String { "\(path)/log" }
    /// The file of the node's standard output and error.
    var console: String { "\(logs)/console.log" }
    var configuration: String { "\(path)/rabbitmq.conf" }

    /// Creates the folder, readable by this user only, with the node's files for this port.
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
                // Erlang accepts only a file that nobody else can read.
                let cookie = "\(path)/.erlang.cookie"
                try write(distribution.cookie, to: cookie)
                try files.setAttributes([.posixPermissions: 0o400], ofItemAtPath: cookie)
            }
        } catch {
            throw .cannotPrepare(path: path, reason: "\(error)")
        }
    }

    /// Removes the node's data, and keeps the logs.
    func removeData() throws(LocalBrokerError) {
        guard FileManager.default.fileExists(atPath: data) else { return }
        do {
            try FileManager.default.removeItem(atPath: data)
        } catch {
            throw .cannotPrepare(path: data, reason: "\(error)")
        }
    }

    /// The complete environment of the node: variables of ours that concern another broker must not reach it.
    func environment() -> [String: String] {
        let ours = ProcessInfo.processInfo.environment
        let programs = ["/usr/local/bin", "/opt/homebrew/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        let path = ((ours["PATH"]?.split(separator: ":").map(String.init) ?? []) + programs).joined(separator: ":")
        return [
            "PATH": path,
            "LANG": "C.UTF-8",
            // The location of the Erlang cookie, which nobody reads.
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
            // Makes the start script replace itself with the node, instead of waiting for it.
            "RABBITMQ_ALLOW_INPUT": "true",
            // We boot RabbitMQ ourselves, after ControlScript.
            "RABBITMQ_NODE_ONLY": "true",
        ]
    }

    /// All single nodes may have the same name, because none can be reached by it.
    static let nodeName = "rabbit@localhost"

    /// The arguments of the Erlang VM. A single node has no distribution, so no epmd: RabbitMQ asks for its own distribution port during
    /// boot, and `-erl_epmd_port` is the answer.
    func arguments() -> [String] {
        let alone = ["-sname", Self.nodeName, "-start_epmd", "false", "-dist_listen", "false", "-erl_epmd_port", "1"]
        let startDistribution = distribution.map { ["-eval", $0.start(folder: path)] } ?? []
        // The statistics of a quorum queue (messages, consumers) are as old as its last tick, by default up to 5 s.
        var ticks = ["-rabbit", "quorum_tick_interval", "100"]
        // The default interval of this check is a minute.
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

    /// The end of the node's output. If it refused to start: the reason, without the crash reports after it.
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

import ConcurrencyPrimitives
import Logging

/// Notes what is logged at `info` and above, without what differs from run to run.
final class StoryLog: Sendable {
    private let lines = Monitor([String]())

    /// All lines so far: level, message, and metadata by key.
    var all: [String] { lines.read { $0 } }

    var logger: Logger {
        var logger = Logger(label: "story") { _ in Handler(log: self) }
        logger.logLevel = .info
        return logger
    }

    /// Waits until so many lines contain this text.
    func wait(for text: String, count: Int = 1, after first: Int = 0) async throws {
        do {
            _ = try await lines.wait(before: .now + .seconds(90)) { lines in
                lines.dropFirst(first).count { $0.contains(text) } >= count ? true : nil
            }
        } catch {
            throw Missing(text: text, count: count, lines: all)
        }
    }

    struct Missing: Error, CustomStringConvertible {
        var text: String
        var count: Int
        var lines: [String]

        var description: String { "\(count) times \"\(text)\" in:\n\(lines.joined(separator: "\n"))" }
    }

    /// The lines about one thing: of what is at work side by side only the order within each is known.
    func about(_ kind: String) -> [String] { all.filter { $0.contains(" \(kind) ") } }

    /// What differs from run to run, as a word.
    private static func normalized(_ key: String, _ value: String) -> String {
        switch key {
        case "after", "supervision.retry-in", "retry-in": return "TIME"
        case "attempts": return "N"
        case "supervision.pid": return "PID"
        case "replies": return "QUEUE"
        default: break
        }
        var text = value
        text.replace(/127\.0\.0\.1:\d+/, with: "BROKER")
        text.replace(/test-[0-9a-f-]{36}/, with: "VHOST")
        text.replace(/RabbitMQ \d+\.\d+\.\d+\S*/, with: "RabbitMQ")
        text.replace(/<0\.\d+>/, with: "PID")
        return text
    }

    private struct Handler: LogHandler {
        let log: StoryLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.info

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let all = metadata.merging(event.metadata ?? [:]) { $1 }
            // Where a line came from is in its message or path.
            let shown = all.filter {
                !["supervision.pid", "supervision.supervisor", "supervision.context"].contains($0.key)
            }
            .sorted { $0.key < $1.key }
            .map { " \($0.key)=\(StoryLog.normalized($0.key, "\($0.value)"))" }
            log.lines.change { $0.append("\(event.level) \(event.message)\(shown.joined())") }
        }
    }
}

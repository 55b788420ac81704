import AMQPPool
import Logging
import RPCCaller
import RPCReceiver
import RPCTesting
import Synchronization

/// What the services of these tests agree on.
enum Math {
    static let add = RPCProcedure<[Int], Int>("add")
    static let upper = RPCProcedure<String, String>("upper", codec: .text)
}

struct Broken: Error, CustomStringConvertible {
    var description: String { "secret of the receiver" }
}

let math = RPCHandlers {
    RPCHandler(Math.add) { numbers, _ in numbers.reduce(0, +) }
    RPCHandler(Math.upper) { text, _ in text.uppercased() }
    RPCHandler("fail") { (text: String, _) -> Int in throw RPCFailure(code: "mine", message: text, details: [1]) }
    RPCHandler("crash") { (_: Int, _) -> Int in throw Broken() }
    RPCHandler("nan") { (_: Int, _) in Double.nan }
    RPCHandler("wait") { (_: Int, _) -> Int in
        try await Task.sleep(for: .seconds(600))
        return 1
    }
    RPCHandler("tenant") { (_: Int, context) -> String? in
        if case .string(let tenant) = context.headers["tenant"] { tenant } else { nil }
    }
}

/// What became of a call.
func outcome<Value: Sendable>(_ body: () async throws(RPCError) -> Value) async -> Result<Value, RPCError> {
    do throws(RPCError) {
        return .success(try await body())
    } catch {
        return .failure(error)
    }
}

/// Notes what is logged.
final class LogCapture: Sendable {
    struct Line: Sendable {
        var level: Logger.Level
        var message: String
        var metadata: Logger.Metadata
    }

    private let lines = Mutex<[Line]>([])

    var all: [Line] { lines.withLock { $0 } }

    /// All that was logged, as one text.
    var text: String { all.map { "\($0.level) \($0.message) \($0.metadata)" }.joined(separator: "\n") }

    var logger: Logger {
        var logger = Logger(label: "test") { _ in Handler(capture: self) }
        logger.logLevel = .trace
        return logger
    }

    private struct Handler: LogHandler {
        let capture: LogCapture
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let line = Line(
                level: event.level,
                message: "\(event.message)",
                metadata: metadata.merging(event.metadata ?? [:]) { $1 }
            )
            capture.lines.withLock { $0.append(line) }
        }
    }
}

/// Waits until it is so.
func eventually(_ condition: () -> Bool) async throws -> Bool {
    let deadline = ContinuousClock.now + .seconds(30)
    while ContinuousClock.now < deadline {
        if condition() { return true }
        try await Task.sleep(for: .milliseconds(5))
    }
    return condition()
}

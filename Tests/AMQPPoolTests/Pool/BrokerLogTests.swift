import Logging
import Synchronization
import Testing

@testable import AMQPPool

@Suite("Lines of the log that wait for a slow handler")
struct BrokerLogTests {
    @Test("are bounded: the newest are written, and how many were left out")
    func bounded() {
        let written = Mutex<[String]>([])
        let log = Mutex<BrokerLog?>(nil)
        let logger = Logger(label: "test") { _ in
            // While it writes the first line, more come than it can ever write.
            WritingHandler { line in
                let isFirst = written.withLock { written in
                    written.append(line)
                    return written.count == 1
                }
                guard isFirst, let log = log.withLock({ $0 }) else { return }
                for n in 1...100_000 { log.handle(.note(.info, "\(n)", [:])) }
            }
        }
        let subject = BrokerStory.Subject(kind: "pool", name: "p", connections: 1)
        log.withLock { $0 = BrokerLog(subject, logger: logger) }
        log.withLock { $0 }?.handle(.note(.info, "0", [:]))
        let lines = written.withLock { $0 }
        #expect(lines.count == 258)
        #expect(lines.prefix(2) == ["pool 0", "pool dropped log lines: the log handler is too slow 99744"])
        #expect(lines.dropFirst(2).elementsEqual((99_745...100_000).map { "pool \($0)" }))
        log.withLock { $0?.handle(.note(.info, "again", [:])) }
        #expect(written.withLock { $0.last } == "pool again")
    }

    @Test("are only those that its level lets through")
    func level() {
        let written = Mutex<[String]>([])
        var logger = Logger(label: "test") { _ in WritingHandler { line in written.withLock { $0.append(line) } } }
        logger.logLevel = .warning
        let log = BrokerLog(BrokerStory.Subject(kind: "pool", name: "p", connections: 1), logger: logger)
        log.handle(.note(.info, "quiet", [:]))
        log.handle(.note(.warning, "loud", [:]))
        #expect(written.withLock { $0 } == ["pool loud"])
    }
}

/// Hands on the text of each line, with what it says of lines that were left out.
private struct WritingHandler: LogHandler {
    let write: @Sendable (String) -> Void
    var logLevel = Logger.Level.trace
    var metadata: Logger.Metadata = [:]

    init(_ write: @escaping @Sendable (String) -> Void) { self.write = write }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let suppressed = event.metadata?["suppressed"].map { " \($0)" } ?? ""
        write("\(event.message)\(suppressed)")
    }
}

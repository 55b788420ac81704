import Logging
import Synchronization

/// Counts what is logged from the level info on.
public final class CountedLines: LogHandler, Sendable {
    private let lines = Mutex(0)

    /// Nothing is logged yet.
    public init() {}

    /// How many lines.
    public var count: Int { lines.withLock { $0 } }
    /// A logger that writes here.
    public var logger: Logger { Logger(label: "counted") { _ in self } }

    /// Not kept.
    public var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    /// Always info.
    public var logLevel: Logger.Level {
        get { .info }
        set {}
    }
    /// Not kept.
    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    /// Counts it.
    public func log(event: LogEvent) { lines.withLock { $0 += 1 } }
}

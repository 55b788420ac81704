import ArgumentParser
import Foundation
import RPCReceiver
import Synchronization

/// What one request in 200 does for 50 ms before it is answered.
enum Slowness: String, ExpressibleByArgument, CaseIterable {
    /// Nothing: all are answered at once.
    case none
    /// It holds its thread, as a handler does that calls a library which waits.
    case blocking
    /// It gives up its thread, as a handler does that awaits.
    case suspending

    private static let milliseconds = 50
    private static let every = 200

    /// The procedure "echo" with such a handler.
    func procedure(runs place: RPCHandler.Place) -> RPCHandler {
        switch self {
        case .none: return RPCHandler("echo", runs: place) { (text: String, _) in text }
        case .blocking:
            let requests = Requests()
            return RPCHandler("echo", runs: place) { (text: String, _) in
                if requests.isNextSlow { Self.block() }
                return text
            }
        case .suspending:
            let requests = Requests()
            return RPCHandler("echo", runs: place) { (text: String, _) in
                if requests.isNextSlow { try await Task.sleep(for: .milliseconds(Self.milliseconds)) }
                return text
            }
        }
    }

    private final class Requests: Sendable {
        private let count = Atomic<Int>(0)

        var isNextSlow: Bool { count.add(1, ordering: .relaxed).newValue.isMultiple(of: Slowness.every) }
    }

    private static func block() { usleep(useconds_t(milliseconds) * 1000) }
}

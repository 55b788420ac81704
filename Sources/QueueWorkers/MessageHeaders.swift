import AMQPPool
import Foundation

/// The headers that workers write, with their names on the wire: see docs/wire-protocol.md. None begins with `x-`, which is the broker's
/// prefix.
enum MessageHeader: String, CaseIterable, Sendable {
    /// The number of failed attempts.
    case attempts
    /// When the message first arrived at a worker: seconds since 1970.
    case firstArrival = "first-arrival"
    /// Why it was given up, truncated to ``MessageHeader/longestReason`` characters.
    case failureReason = "failure-reason"
    /// The type of the error.
    case failureType = "failure-type"
    /// When it was given up.
    case failureTime = "failure-time"
    /// The queue it was in.
    case failureQueue = "failure-queue"
    /// The exchange it was first published to.
    case failureExchange = "failure-exchange"
    /// The routing key it was first published with.
    case failureRoutingKey = "failure-routing-key"
    /// The host on which it failed.
    case failureHost = "failure-host"

    /// The header of earlier versions instead of ``attempts``; still read.
    static let oldAttempts = "x-attempts"
    /// The maximum length of a reason: headers must fit into one frame, together with the message's own.
    static let longestReason = 1000
}

extension FieldTable {
    subscript(header header: MessageHeader) -> FieldValue? {
        get { self[header.rawValue] }
        set { self[header.rawValue] = newValue }
    }

    /// The text of a header, if present.
    func text(_ header: MessageHeader) -> String? {
        guard case .string(let text)? = self[header.rawValue] else { return nil }
        return text
    }

    /// Whether it contains no header of workers.
    var isBare: Bool { MessageHeader.allCases.allSatisfy { self[$0.rawValue] == nil } }

    /// Whether the broker says that the message was in one of these queues.
    func wasIn(_ isMeant: (String) -> Bool) -> Bool {
        guard case .array(let deaths)? = self["x-death"] else { return false }
        return deaths.contains { death in
            guard case .table(let death) = death, case .string(let queue)? = death["queue"] else { return false }
            return isMeant(queue)
        }
    }
}

/// The wall clock, in seconds since 1970.
func secondsSince1970() -> UInt64 { UInt64(max(0, Date().timeIntervalSince1970)) }

package import AMQPPool
import Foundation

/// The headers that workers write, by their names on the wire: see docs/wire-protocol.md. None begins with `x-`: those are the broker's.
package enum MessageHeader: String, CaseIterable, Sendable {
    /// How many attempts have failed.
    case attempts
    /// When the message first came to a worker: seconds since 1970.
    case firstArrival = "first-arrival"
    /// Why it was given up, cut to ``MessageHeader/longestReason`` characters.
    case failureReason = "failure-reason"
    /// The type of the error.
    case failureType = "failure-type"
    /// When it was given up.
    case failureTime = "failure-time"
    /// The queue it was in.
    case failureQueue = "failure-queue"
    /// The exchange it was published to at first.
    case failureExchange = "failure-exchange"
    /// The routing key it was published with at first.
    case failureRoutingKey = "failure-routing-key"
    /// The host on which it failed.
    case failureHost = "failure-host"

    /// What earlier versions wrote in place of ``attempts``. It is understood still.
    package static let oldAttempts = "x-attempts"
    /// Headers must fit into one frame, with the message's own.
    package static let longestReason = 1000
}

extension FieldTable {
    package subscript(header header: MessageHeader) -> FieldValue? {
        get { self[header.rawValue] }
        set { self[header.rawValue] = newValue }
    }

    /// The text under a name, if there is one.
    package func text(_ header: MessageHeader) -> String? {
        guard case .string(let text)? = self[header.rawValue] else { return nil }
        return text
    }

    /// Whether it has nothing that workers write.
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

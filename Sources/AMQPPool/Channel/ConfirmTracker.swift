import DequeModule
import NIOCore

/// The messages of one channel that the broker has not confirmed, in publishing order.
///
/// The broker numbers them from 1 in that order. An ack or nack names one or, with `multiple`, all up to one. A return has no number: it is
/// matched by the message's properties, and since returns arrive in publishing order, the search begins after the last returned message.
struct ConfirmTracker {
    /// An outcome to deliver to a publisher.
    struct Settlement {
        var observer: any PublishObserver
        var attempt: Int
        var outcome: PublishOutcome

        func deliver() { observer.published(attempt, outcome) }
    }

    /// What identifies a message that the broker returns, or closes the channel for.
    struct Identity {
        /// Only mandatory messages can be returned.
        var isMandatory: Bool
        var exchange: String
        var routingKey: String
        var properties: MessageProperties
        /// The size of the body in bytes.
        var size: Int
        /// Kept only when the message has no message id to identify it.
        var body: ByteBuffer?

        init(_ publish: Publish) {
            isMandatory = publish.mandatory
            exchange = publish.exchange
            routingKey = publish.routingKey
            properties = publish.properties
            size = publish.body.readableBytes
            body = isMandatory && properties.messageID == nil ? publish.body : nil
        }

        func matches(
            exchange: String,
            routingKey: String,
            properties: MessageProperties?,
            body: ByteBuffer
        ) -> Bool {
            guard let properties else { return false }
            return self.properties.messageID == properties.messageID
                && self.properties.correlationID == properties.correlationID && self.routingKey == routingKey
                && self.exchange == exchange && (self.body.map { $0 == body } ?? true)
        }
    }

    private enum Entry {
        case waiting(Waiter?, Identity)
        case settled
    }

    /// The recipient of the outcome.
    private struct Waiter {
        var observer: any PublishObserver
        var attempt: Int
        var hearsFailuresOnly: Bool
        var hearsRefusals: Bool
    }

    /// Entries from tag `base`.
    private var entries = Deque<Entry>()
    private var base: UInt64 = 1
    /// Where the search for the next returned message begins.
    private var returnCursor: UInt64 = 1
    /// The number of messages without an outcome.
    private(set) var unsettled = 0

    /// The number of entries: unconfirmed messages, and confirmed ones behind them.
    var count: Int { entries.count }

    /// Adds a message that is about to be written.
    mutating func append(_ publish: Publish) {
        let waiter = publish.observer.map {
            Waiter(
                observer: $0,
                attempt: publish.attempt,
                hearsFailuresOnly: publish.tellsFailuresOnly,
                hearsRefusals: publish.tellsRefusals
            )
        }
        entries.append(.waiting(waiter, Identity(publish)))
        unsettled += 1
    }

    /// Handles a `basic.ack` or `basic.nack`. Tag 0 with `multiple` means all.
    ///
    /// - Returns: Whether the tag has been published; confirming another tag is a protocol violation.
    mutating func settle(
        _ tag: UInt64,
        multiple: Bool,
        with outcome: PublishOutcome,
        _ settled: (Settlement) -> Void
    ) -> Bool {
        let end = base + UInt64(entries.count)
        let last = tag == 0 && multiple ? end - 1 : tag
        guard last < end, tag > 0 || multiple else { return false }
        guard last >= base else { return true }
        let index = Int(last - base)
        if multiple {
            for _ in 0...index {
                report(entries.removeFirst(), outcome, settled)
                base += 1
            }
        } else {
            report(entries[index], outcome, settled)
            entries[index] = .settled
        }
        while case .settled? = entries.first {
            entries.removeFirst()
            base += 1
        }
        return true
    }

    /// Handles a `basic.return`: the message gets its outcome now, and the confirm that follows is ignored.
    ///
    /// - Returns: Whether a message was found.
    mutating func returned(
        exchange: String,
        routingKey: String,
        properties: MessageProperties?,
        body: ByteBuffer,
        outcome: PublishOutcome,
        _ settled: (Settlement) -> Void
    ) -> Bool {
        let start = Int(max(returnCursor, base) - base)
        func match(_ index: Int) -> Bool {
            guard case .waiting(_, let identity) = entries[index], identity.isMandatory else { return false }
            return identity.matches(
                exchange: exchange,
                routingKey: routingKey,
                properties: properties,
                body: body
            )
        }
        let found =
            (start..<max(start, entries.count)).first(where: match)
            ?? (0..<min(start, entries.count)).first(where: match)
        guard let found else { return false }
        report(entries[found], outcome, settled)
        // Removes the identity too: the next return of an equal message belongs to the next equal message.
        entries[found] = .settled
        returnCursor = base + UInt64(found) + 1
        return true
    }

    /// Gives every message without an outcome this outcome.
    mutating func settleAll(with outcome: PublishOutcome, _ settled: (Settlement) -> Void) {
        for entry in entries { report(entry, outcome, settled) }
        base += UInt64(entries.count)
        entries.removeAll()
    }

    /// The broker closed the channel because of one of the messages.
    ///
    /// The broker processes a channel's messages in order, and none after that one. The last message that matches was therefore not taken,
    /// and the messages after it were not processed; those before it are in doubt.
    mutating func settleAll(
        refused refusal: PublishRefusal,
        _ error: AMQPError,
        _ settled: (Settlement) -> Void
    ) {
        var candidates = entries.indices.filter { index in
            guard case .waiting(_, let identity) = entries[index] else { return false }
            return refusal.ground.matches(identity)
        }
        let isKnown = !candidates.isEmpty && refusal.ground != .unknown
        if !isKnown {
            candidates = entries.indices.filter { if case .waiting = entries[$0] { true } else { false } }
        }
        let last = isKnown || candidates.count == 1 ? candidates.last : nil
        let suspects = Set(candidates)
        for (index, entry) in entries.enumerated() {
            guard case .waiting(let waiter, let identity) = entry else { continue }
            let outcome: PublishOutcome
            if waiter?.hearsRefusals != true {
                outcome = .unknown(error)
            } else if let last, index > last {
                outcome = .notWritten(.lostForAnother)
            } else if index == last {
                outcome = .refused(
                    .refused(
                        code: refusal.code,
                        text: refusal.text,
                        exchange: identity.exchange,
                        routingKey: identity.routingKey
                    )
                )
            } else {
                outcome = .unknown(suspects.contains(index) ? error : .lostForAnother)
            }
            report(entry, outcome, settled)
        }
        base += UInt64(entries.count)
        entries.removeAll()
    }

    private mutating func report(
        _ entry: Entry,
        _ outcome: PublishOutcome,
        _ settled: (Settlement) -> Void
    ) {
        guard case .waiting(let waiter, _) = entry else { return }
        unsettled -= 1
        guard let waiter, !(waiter.hearsFailuresOnly && outcome.isSuccess) else { return }
        settled(Settlement(observer: waiter.observer, attempt: waiter.attempt, outcome: outcome))
    }
}

extension PublishOutcome {
    fileprivate var isSuccess: Bool {
        switch self {
        case .confirmed, .presumedDelivered, .sent: true
        case .nacked, .returned, .notWritten, .unknown, .refused: false
        }
    }
}

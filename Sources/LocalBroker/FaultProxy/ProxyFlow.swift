import NIOCore

/// One direction of a proxied connection, as a value: what to read, hold and write, and when.
///
/// One read and one write are outstanding at the most, and no more is read while ``limit`` bytes are held: memory stays
/// bounded, and what the receiver does not take, the sender notices.
struct ProxyFlow {
    enum Action: Equatable {
        /// Read once from the sender.
        case read
        /// Write to the receiver, and tell when it is done.
        case write(ByteBuffer)
        /// Tell the receiver that nothing more comes (FIN).
        case finish
        /// Come back then.
        case wake(at: NIODeadline)
        /// Bytes are missing in the middle: the connection cannot go on.
        case breakUp
    }

    /// How many bytes are held at the most, for a delay or a limit; a read more than that may come.
    static let limit = 1 << 20

    private(set) var conditions: NetworkConditions
    private var held = CircularBuffer<(bytes: ByteBuffer, due: NIODeadline)>()
    private var heldBytes = 0
    private var isReading = false
    private var isWriting = false
    /// When the sender said that nothing more comes.
    private var endDue: NIODeadline?
    /// Whether the receiver was told that nothing more comes.
    private(set) var isFinished = false
    private var hasLost = false
    /// When the rate allows the next byte.
    private var allowed = NIODeadline.uptimeNanoseconds(0)
    private var wake: NIODeadline?

    init(_ conditions: NetworkConditions) {
        self.conditions = conditions
    }

    /// Whether the sender has ended, told on or not.
    var isEnded: Bool { endDue != nil }

    mutating func start(now: NIODeadline) -> [Action] { advance(now) }

    mutating func received(_ bytes: ByteBuffer, now: NIODeadline) -> [Action] {
        isReading = false
        held.append((bytes, now + TimeAmount(conditions.delay)))
        heldBytes += bytes.readableBytes
        return advance(now)
    }

    /// The sender has ended.
    mutating func ended(now: NIODeadline) -> [Action] {
        if endDue == nil { endDue = now + TimeAmount(conditions.delay) }
        return advance(now)
    }

    mutating func wrote(now: NIODeadline) -> [Action] {
        isWriting = false
        return advance(now)
    }

    mutating func woke(now: NIODeadline) -> [Action] {
        wake = nil
        return advance(now)
    }

    mutating func change(to conditions: NetworkConditions, now: NIODeadline) -> [Action] {
        let before = self.conditions
        self.conditions = conditions
        // What was held for a longer delay comes as early as the new one lets it.
        let latest = now + TimeAmount(conditions.delay)
        for index in held.indices { held[index].due = min(held[index].due, latest) }
        endDue = endDue.map { min($0, latest) }
        // The pause after the last portion was one at the rate before.
        if conditions.bytesPerSecond != before.bytesPerSecond { allowed = now }
        if hasLost, !conditions.isHalfOpen { return [.breakUp] }
        return advance(now)
    }

    private mutating func advance(_ now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        if conditions.isHalfOpen {
            // An end that is not told is lost as well.
            if !held.isEmpty || isEnded { hasLost = true }
            held.removeAll()
            heldBytes = 0
        } else if !conditions.isStalled {
            forward(now, &actions)
        } else {
            return []
        }
        if !isReading, !isEnded, heldBytes < Self.limit {
            isReading = true
            actions.append(.read)
        }
        return actions
    }

    private mutating func forward(_ now: NIODeadline, _ actions: inout [Action]) {
        guard !isWriting else { return }
        if var first = held.first {
            let ready = max(first.due, allowed)
            guard ready <= now else { return sleep(until: ready, &actions) }
            var size = first.bytes.readableBytes
            if let rate = conditions.bytesPerSecond {
                let rate = max(1, rate)
                // Fifty portions a second, or one byte at a time.
                size = min(size, max(1, rate / 50))
                allowed = now + .nanoseconds(Int64(size) * 1_000_000_000 / Int64(rate))
            }
            guard let portion = first.bytes.readSlice(length: size) else { return }
            heldBytes -= size
            if first.bytes.readableBytes == 0 { held.removeFirst() } else { held[held.startIndex] = first }
            isWriting = true
            actions.append(.write(portion))
        } else if let endDue, !isFinished {
            guard endDue <= now else { return sleep(until: endDue, &actions) }
            isFinished = true
            actions.append(.finish)
        }
    }

    private mutating func sleep(until time: NIODeadline, _ actions: inout [Action]) {
        if let wake, wake <= time { return }
        wake = time
        actions.append(.wake(at: time))
    }
}

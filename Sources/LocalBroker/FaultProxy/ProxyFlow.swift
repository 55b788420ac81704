import NIOCore

/// One direction of a proxied connection, as a value: what to read, buffer and write, and when.
///
/// At most one read and one write are outstanding, and reading stops while ``limit`` bytes are buffered: memory stays bounded, and the
/// sender notices when the receiver does not read.
struct ProxyFlow {
    enum Action: Equatable {
        /// Read once from the sender.
        case read
        /// Write to the receiver, and report the completion.
        case write(ByteBuffer)
        /// Send FIN to the receiver.
        case finish
        /// Call again at this time.
        case wake(at: NIODeadline)
        /// Bytes are missing in the middle: the connection has to be reset.
        case breakUp
    }

    /// The maximum number of buffered bytes, for a delay or a limit, plus one read.
    static let limit = 1 << 20

    private(set) var conditions: NetworkConditions
    private var held = CircularBuffer<(bytes: ByteBuffer, due: NIODeadline)>()
    private var heldBytes = 0
    private var isReading = false
    private var isWriting = false
    /// When the sender's end is due to be forwarded.
    private var endDue: NIODeadline?
    /// Whether FIN has been sent to the receiver.
    private(set) var isFinished = false
    private var hasLost = false
    /// When the rate allows the next byte.
    private var allowed = NIODeadline.uptimeNanoseconds(0)
    private var wake: NIODeadline?

    init(_ conditions: NetworkConditions) {
        self.conditions = conditions
    }

    /// Whether the sender has ended, forwarded or not.
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
        // Bytes that were held for a longer delay are sent as early as the new one allows.
        let latest = now + TimeAmount(conditions.delay)
        for index in held.indices { held[index].due = min(held[index].due, latest) }
        endDue = endDue.map { min($0, latest) }
        // The pause after the last portion belonged to the previous rate.
        if conditions.bytesPerSecond != before.bytesPerSecond { allowed = now }
        if hasLost, !conditions.isHalfOpen { return [.breakUp] }
        return advance(now)
    }

    private mutating func advance(_ now: NIODeadline) -> [Action] {
        var actions: [Action] = []
        if conditions.isHalfOpen {
            // An end that is not forwarded is lost too.
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

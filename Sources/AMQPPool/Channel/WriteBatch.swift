import NIOCore

/// Collects what is written at the end of a tick, and lets one write at a time onto the socket.
///
/// Nothing is handed to the socket while it has not taken the write before completely. So what is still in an outbox when
/// the connection ends was certainly not sent, and only what was encoded is in doubt. The memory of the write before last is
/// used again.
struct WriteBatch {
    /// From this many bytes on no more messages are encoded before what is there was written.
    static let limit = 1 << 20

    private var filling = ByteBuffer()
    private var writing = ByteBuffer()
    private(set) var isWriting = false

    /// Whether there is room for messages. Other methods are always taken: they are few.
    var hasRoom: Bool { !isWriting && filling.readableBytes < Self.limit }

    /// The bytes that wait to be written.
    var size: Int { filling.readableBytes }

    /// Whether something waits to be written, and may be.
    var isDue: Bool { !isWriting && filling.readableBytes > 0 }

    /// Encodes into the batch.
    mutating func append<Failure: Error>(_ encode: (inout ByteBuffer) throws(Failure) -> Void) throws(Failure) {
        try encode(&filling)
    }

    /// What to write now, until ``finished()``; nil if nothing is due.
    mutating func begin() -> ByteBuffer? {
        guard isDue else { return nil }
        isWriting = true
        swap(&filling, &writing)
        if filling.capacity > 2 * Self.limit { filling = ByteBuffer() } else { filling.clear() }
        return writing
    }

    /// The socket has taken the write completely.
    mutating func finished() {
        isWriting = false
    }
}

extension WriteBatch {
    /// How much of what waits is encoded in one turn.
    enum Share {
        /// As long as there is room.
        case all
        /// Up to the first message: what stands behind one must stay there.
        case acknowledgements
        /// Messages of about this many bytes, and what is between them.
        case bytes(Int)
    }

    /// What became of entries that a channel wants to write.
    struct Written {
        enum Exception {
            /// Its observer does not want it any more.
            case unwanted
            case refused(EncodingError)
        }

        /// How many were dealt with, from the first on.
        var count = 0
        /// The bytes of their bodies.
        var bytes = 0
        /// Those of them that were not written.
        var exceptions: [(index: Int, Exception)] = []
        /// Whether the next has to wait for the socket, or for the broker to read on.
        var lacksRoom = false
    }

    /// Encodes entries up to the first that has to wait.
    ///
    /// All in one go: who owns the batch, and who runs on the event loop, is checked once, and not for each of them. So an observer that is
    /// asked whether it wants its message written must not call back in here.
    ///
    /// - Parameters:
    ///   - room: for how many messages the channel has room.
    ///   - share: how much of what waits is encoded in this turn; becomes what is left of that.
    ///   - isLast: whether the channel is about to close. Then the bounds do not count; see ``AMQPChannel``.
    ///   - isOpen: whether the connection is open, and the broker reads.
    mutating func append(
        _ entries: ArraySlice<ChannelOutbox.Entry>,
        of channel: UInt16,
        room: Int,
        share: inout WriteBatch.Share,
        isLast: Bool,
        isOpen: Bool,
        by encoder: FrameEncoder
    ) -> Written {
        var (written, room) = (Written(), room)
        for entry in entries {
            guard share.allows(entry) else { break }
            let exception: Written.Exception?
            if case .publish(let publish) = entry {
                guard room > 0 else { break }
                guard isOpen, isLast ? !isWriting : hasRoom else {
                    written.lacksRoom = !isLast
                    break
                }
                room -= 1
                exception = append(publish, of: channel, by: encoder)
            } else {
                guard isLast || (isOpen && hasRoom) else {
                    written.lacksRoom = true
                    break
                }
                exception = append(entry.method, of: channel, by: encoder)
            }
            if let exception { written.exceptions.append((entries.startIndex + written.count, exception)) }
            written.count += 1
            written.bytes += entry.bytes
            share.took(entry)
        }
        return written
    }

    private mutating func append(_ publish: Publish, of channel: UInt16, by encoder: FrameEncoder) -> Written.Exception?
    {
        guard publish.observer?.mayWrite(publish.attempt) ?? true else { return .unwanted }
        do throws(EncodingError) {
            try encoder.encode(
                .basicPublish(
                    exchange: publish.exchange,
                    routingKey: publish.routingKey,
                    mandatory: publish.mandatory
                ),
                channel: channel,
                properties: publish.properties,
                body: publish.body,
                into: &filling
            )
            return nil
        } catch {
            return .refused(error)
        }
    }

    private mutating func append(_ method: Method?, of channel: UInt16, by encoder: FrameEncoder) -> Written.Exception?
    {
        guard let method else { return nil }
        do throws(EncodingError) {
            try encoder.encode(method, channel: channel, into: &filling)
            return nil
        } catch {
            return .refused(error)
        }
    }
}

extension ChannelOutbox.Entry {
    /// What is written of it, unless it is a message.
    fileprivate var method: Method? {
        switch self {
        case .publish: nil
        case .acknowledge(let tag, let multiple): .basicAck(deliveryTag: tag, multiple: multiple)
        case .reject(let tag, let requeue): .basicReject(deliveryTag: tag, requeue: requeue)
        case .giveBack(let tag): .basicNack(deliveryTag: tag, multiple: false, requeue: true)
        }
    }
}

extension WriteBatch.Share {
    fileprivate func allows(_ entry: ChannelOutbox.Entry) -> Bool {
        switch (self, entry) {
        case (.all, _), (_, .acknowledge), (_, .reject), (_, .giveBack): true
        case (.acknowledgements, .publish): false
        case (.bytes(let left), .publish): left > 0
        }
    }

    fileprivate mutating func took(_ entry: ChannelOutbox.Entry) {
        if case .bytes(let left) = self { self = .bytes(left - entry.bytes - 1) }
    }
}

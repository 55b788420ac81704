import NIOCore

/// Collects the writes of an event loop tick, with at most one write to the socket at a time.
///
/// Nothing is passed to the socket before it has taken the previous write completely. Entries still in an outbox when the connection ends
/// were therefore certainly not sent, and only encoded ones are in doubt. The memory of the write before the previous one is reused.
struct WriteBatch {
    /// From this size in bytes, no more messages are encoded until the batch has been written.
    static let limit = 1 << 20

    private var filling = ByteBuffer()
    private var writing = ByteBuffer()
    private(set) var isWriting = false

    /// Whether there is room for messages. Other methods are always accepted: they are few.
    var hasRoom: Bool { !isWriting && filling.readableBytes < Self.limit }

    /// The number of bytes that wait to be written.
    var size: Int { filling.readableBytes }

    /// Whether there is something to write, and no write is in progress.
    var isDue: Bool { !isWriting && filling.readableBytes > 0 }

    /// Encodes into the batch.
    mutating func append<Failure: Error>(_ encode: (inout ByteBuffer) throws(Failure) -> Void) throws(Failure) {
        try encode(&filling)
    }

    /// The bytes to write now, until ``finished()``; `nil` if nothing is due.
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
    /// How much of the waiting entries is encoded in one turn.
    enum Share {
        /// As much as there is room for.
        case all
        /// Up to the first message; entries after a message must not overtake it.
        case acknowledgements
        /// Messages of about this many bytes, and the entries between them.
        case bytes(Int)
    }

    /// The outcome of writing a channel's entries.
    struct Written {
        enum Exception {
            /// Its observer has withdrawn it.
            case unwanted
            case refused(EncodingError)
        }

        /// The number of processed entries, from the first.
        var count = 0
        /// The bytes of their bodies.
        var bytes = 0
        /// The processed entries that were not written.
        var exceptions: [(index: Int, Exception)] = []
        /// Whether the next entry has to wait for the socket, or for the broker to read again.
        var lacksRoom = false
    }

    /// Encodes entries up to the first that has to wait.
    ///
    /// In one call, so that ownership of the batch and the event loop are checked once instead of per entry. An observer that is asked
    /// whether to write its message must therefore not call back into this.
    ///
    /// - Parameters:
    ///   - room: How many messages the channel has room for.
    ///   - share: How much is encoded in this turn; reduced by what was encoded.
    ///   - isLast: Whether the channel is about to close. The limits do not apply then; see ``AMQPChannel``.
    ///   - isOpen: Whether the connection is open and the broker is reading.
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
    /// The method to write; `nil` for a message.
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

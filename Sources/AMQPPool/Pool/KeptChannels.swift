internal import ConcurrencyPrimitives
import Supervision
import Synchronization

/// The channels that belong to one consumer each, and outlive its incarnations: one that crashed leaves its channel here, and
/// the next takes it over, without a consumer on it and with everything unacknowledged requeued.
final class KeptChannels: Sendable {
    private enum Entry {
        case held(AMQPChannel)
        /// Being cleared of what its consumer left behind.
        case clearing(AMQPChannel, OneShot<Void>)
        case free(AMQPChannel, OneShot<Void>)

        var channel: AMQPChannel {
            switch self {
            case .held(let channel), .clearing(let channel, _), .free(let channel, _): channel
            }
        }
    }

    /// How long a channel waits for the next incarnation before it is closed.
    static let keepTime = Duration.seconds(60)

    private let entries = Mutex<[String: Entry]>([:])

    /// The channel that an earlier incarnation left, once it is clear; nil when there is none.
    func take(for owner: String) async -> AMQPChannel? {
        while true {
            let clearing = entries.withLock { entries -> Result<AMQPChannel?, Clearing> in
                switch entries[owner] {
                case .free(let channel, _) where channel.closedError == nil:
                    entries[owner] = .held(channel)
                    return .success(channel)
                case .clearing(_, let cleared): return .failure(Clearing(cleared: cleared))
                case .free, .held, nil: return .success(nil)
                }
            }
            switch clearing {
            case .success(let channel): return channel
            case .failure(let clearing):
                guard await clearing.cleared.wait() != nil else { return nil }
            }
        }
    }

    private struct Clearing: Error {
        let cleared: OneShot<Void>
    }

    /// The owner has opened this channel. One that somebody else of the same name holds stays that one's.
    func hold(_ channel: AMQPChannel, for owner: String) {
        entries.withLock { entries in
            if let other = entries[owner]?.channel, other.closedError == nil { return }
            entries[owner] = .held(channel)
        }
    }

    /// The owner is done with its channel, which it closes.
    func forget(_ channel: AMQPChannel, of owner: String) {
        entries.withLock { entries in
            if entries[owner]?.channel === channel { entries[owner] = nil }
        }
    }

    /// The owner has crashed. Its consumer is cancelled, then everything unacknowledged is requeued: what had been begun as tried, so that
    /// the broker counts it (from RabbitMQ 4.3 on it counts neither `basic.recover` nor `basic.nack`).
    func leave(_ channel: AMQPChannel, consumer tag: String?, begun: [UInt64], of owner: String) {
        let cleared = OneShot<Void>()
        let isKept = entries.withLock { entries in
            guard entries[owner]?.channel === channel, channel.closedError == nil else { return false }
            entries[owner] = .clearing(channel, cleared)
            return true
        }
        // Whoever takes the channel over waits for it, and nobody else: it is bounded by the channel's operation timeout.
        Task.detached { [self] in
            guard isKept else { return await channel.close() }
            do throws(AMQPError) {
                if let tag { try await channel.cancel(tag) }
                for delivery in begun.sorted() { channel.reject(delivery, requeue: true) }
                try await channel.recover()
                entries.withLock { $0[owner] = .free(channel, cleared) }
                closeLater(channel, cleared, of: owner)
            } catch {
                entries.withLock { $0[owner] = nil }
                await channel.close()
            }
            cleared.set(())
        }
    }

    private func closeLater(_ channel: AMQPChannel, _ cleared: OneShot<Void>, of owner: String) {
        _ = SystemSupervisionClock.shared.schedule(after: Self.keepTime) { [weak self] in
            let isUnclaimed = self?.entries.withLock { entries in
                // The same crash's: it may have been taken over and left again meanwhile.
                guard case .free(_, let current) = entries[owner], current === cleared else { return false }
                entries[owner] = nil
                return true
            }
            if isUnclaimed != false { channel.beginClose() }
        }
    }
}

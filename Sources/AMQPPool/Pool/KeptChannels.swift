internal import ConcurrencyPrimitives
import Supervision
import Synchronization

/// The channels of consumers that outlive an incarnation: a crashed consumer leaves its channel here, and the next incarnation takes it
/// over, without a consumer on it and with all unacknowledged deliveries requeued.
final class KeptChannels: Sendable {
    private enum Entry {
        case held(AMQPChannel)
        /// The consumer and deliveries of its previous owner are being removed.
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

    /// The channel of an earlier incarnation, once it is cleared; `nil` when there is none.
    func acquire(for owner: String) async -> AMQPChannel? {
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

    /// Registers the channel that its owner has opened. A channel held by another owner of the same name stays registered.
    func register(_ channel: AMQPChannel, for owner: String) {
        entries.withLock { entries in
            if let other = entries[owner]?.channel, other.closedError == nil { return }
            entries[owner] = .held(channel)
        }
    }

    /// The owner is closing its channel.
    func remove(_ channel: AMQPChannel, of owner: String) {
        entries.withLock { entries in
            if entries[owner]?.channel === channel { entries[owner] = nil }
        }
    }

    /// The owner has crashed. Its consumer is cancelled, then all unacknowledged deliveries are requeued: started ones by a reject, so that
    /// the broker counts them (since RabbitMQ 4.3 it counts neither `basic.recover` nor `basic.nack`).
    func release(_ channel: AMQPChannel, consumer tag: String?, begun: [UInt64], of owner: String) {
        let cleared = OneShot<Void>()
        let isKept = entries.withLock { entries in
            guard entries[owner]?.channel === channel, channel.closedError == nil else { return false }
            entries[owner] = .clearing(channel, cleared)
            return true
        }
        // Awaited only by the next owner: it is bounded by the channel's operation timeout.
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
                // Of the same crash: the channel may have been taken over and left again in the meantime.
                guard case .free(_, let current) = entries[owner], current === cleared else { return false }
                entries[owner] = nil
                return true
            }
            if isUnclaimed != false { channel.beginClose() }
        }
    }
}

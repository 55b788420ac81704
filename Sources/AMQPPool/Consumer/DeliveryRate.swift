internal import ConcurrencyPrimitives

/// How many messages may start per interval. As many may start at once.
public struct DeliveryRate: Sendable, Hashable {
    /// The number of messages.
    public var count: Int
    /// The interval.
    public var interval: Duration

    /// Creates a rate of this many messages per interval.
    public init(_ count: Int, in interval: Duration) {
        self.count = count
        self.interval = interval
    }

    /// The first problem with these values, `nil` if they are valid.
    package var problem: String? {
        if count < 1 { return "a rate must be at least one message, not \(count)" }
        if interval <= .zero { return "a rate's interval must be longer than zero, not \(interval)" }
        return nil
    }

    /// The number of messages that may start now: refilled continuously, up to ``count``. A batch may overdraw it, which is made up for
    /// before the next one.
    struct Tokens: Sendable {
        private let rate: DeliveryRate
        private var count: Double
        private var time: Duration?

        init(_ rate: DeliveryRate) {
            self.rate = DeliveryRate(max(1, rate.count), in: max(.nanoseconds(1), rate.interval.bounded))
            count = Double(self.rate.count)
        }

        private func tokens(at now: Duration) -> Double {
            guard let time, now > time else { return count }
            return min(Double(rate.count), count + (now - time) / rate.interval * Double(rate.count))
        }

        mutating func hasOne(at now: Duration) -> Bool {
            count = tokens(at: now)
            time = now
            // A refill may fall short of a whole token by rounding.
            return count >= 1 - 1e-6
        }

        mutating func take(_ number: Int, at now: Duration) {
            count = tokens(at: now) - Double(number)
            time = now
        }

        /// When there is a token again; `nil` if there is one.
        var nextDue: Duration? {
            guard let time, count < 1 else { return nil }
            return time + rate.interval * ((1 - count) / Double(rate.count))
        }
    }
}

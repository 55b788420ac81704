internal import ConcurrencyPrimitives

/// How many messages may begin in a time. The first as many may begin at once.
public struct DeliveryRate: Sendable, Hashable {
    /// How many messages.
    public var count: Int
    /// In what time.
    public var interval: Duration

    /// This many messages in this time.
    public init(_ count: Int, in interval: Duration) {
        self.count = count
        self.interval = interval
    }

    /// What is wrong with these values, if anything.
    package var problem: String? {
        if count < 1 { return "a rate is at least one message, not \(count)" }
        if interval <= .zero { return "a rate's interval is longer than nothing, not \(interval)" }
        return nil
    }

    /// How many messages may begin now: refilled steadily, up to ``count``. A batch may overdraw it, and is paid off before the next.
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
            // A refill that is due may fall short of a whole one by rounding.
            return count >= 1 - 1e-6
        }

        mutating func take(_ number: Int, at now: Duration) {
            count = tokens(at: now) - Double(number)
            time = now
        }

        /// When there is one again; nil when there is.
        var nextDue: Duration? {
            guard let time, count < 1 else { return nil }
            return time + rate.interval * ((1 - count) / Double(rate.count))
        }
    }
}

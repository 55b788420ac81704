import ConcurrencyPrimitives

extension Latch {
    /// Whether it is open, at the latest after this time, also in a task that is cancelled: what a test has begun is looked at to its
    /// end.
    func isOpen(within limit: Duration) async -> Bool {
        let look = OneShot<Void>()
        whenOpen { look.set(()) }
        let timer = SystemTimers.shared.schedule(after: limit) { look.set(()) }
        await look.settled()
        timer.cancel()
        return isOpen
    }
}

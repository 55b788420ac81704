import NIOCore

/// When a closing handshake is given up: at the earliest deadline of all callers.
struct CloseDeadline {
    private let instant: NIODeadline
    private let scheduled: Scheduled<Void>

    /// - Parameter current: The deadline so far, which is kept if it is earlier.
    init(
        after timeout: Duration,
        unlessBefore current: CloseDeadline?,
        on eventLoop: any EventLoop,
        _ giveUp: @escaping @Sendable () -> Void
    ) {
        let instant = NIODeadline.now() + TimeAmount(timeout)
        if let current, current.instant <= instant {
            self = current
            return
        }
        current?.cancel()
        self.instant = instant
        scheduled = eventLoop.scheduleTask(deadline: instant) { giveUp() }
    }

    func cancel() {
        scheduled.cancel()
    }
}

import Dispatch
import HeapModule
import Synchronization

/// Where supervisors take the time from, and who wakes them.
///
/// The default is ``SystemSupervisionClock``. Tests put in a clock that they turn by hand (`ManualClock` in
/// `SupervisionTesting`): restart windows, backoffs and shutdown timeouts then pass without waiting.
public protocol SupervisionClock: Sendable {
    /// The time since some fixed moment; it never goes back.
    var now: Duration { get }

    /// Runs `action` once, when `delay` has passed, unless the timer is cancelled before. The action must not block.
    func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> SupervisionTimer
}

/// A scheduled action. Cancelling it releases the action; one that has begun is not interrupted.
public struct SupervisionTimer: Sendable {
    private let onCancel: @Sendable () -> Void

    /// A timer that `onCancel` withdraws.
    public init(onCancel: @escaping @Sendable () -> Void) {
        self.onCancel = onCancel
    }

    /// Withdraws the action if it has not begun.
    public func cancel() {
        onCancel()
    }
}

/// The monotonic clock of the system, with all timers on one thread of their own: they fire also while every thread of
/// Swift's cooperative pool is blocked.
public final class SystemSupervisionClock: SupervisionClock {
    /// The clock that all supervisors use unless they are given another.
    public static let shared = SystemSupervisionClock()

    private final class Entry: Sendable {
        let deadline: Duration
        let action: Mutex<(@Sendable () -> Void)?>

        init(deadline: Duration, action: @escaping @Sendable () -> Void) {
            self.deadline = deadline
            self.action = Mutex(action)
        }

        func take() -> (@Sendable () -> Void)? {
            action.withLock { action in
                defer { action = nil }
                return action
            }
        }
    }

    private struct Item: Comparable {
        let entry: Entry

        static func < (left: Item, right: Item) -> Bool { left.entry.deadline < right.entry.deadline }
        static func == (left: Item, right: Item) -> Bool { left.entry === right.entry }
    }

    private struct State {
        var heap = Heap<Item>()
        var cancelled = 0
        /// When the dispatch timer is set to fire.
        var wakeUp: Duration?
    }

    private let origin = ContinuousClock.now
    private let state = Mutex(State())
    /// Dispatch objects may be used from any thread; the module just does not say so with `Sendable`.
    private nonisolated(unsafe) let source: any DispatchSourceTimer

    private init() {
        let queue = DispatchQueue(label: "supervision.timers", qos: .userInitiated)
        source = DispatchSource.makeTimerSource(queue: queue)
        source.setEventHandler { [weak self] in self?.fire() }
        source.activate()
    }

    /// The time since the process first used this clock.
    public var now: Duration {
        origin.duration(to: .now)
    }

    /// Runs `action` on the timer thread after `delay`.
    public func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> SupervisionTimer {
        let entry = Entry(deadline: now + max(delay.clamped, .zero), action: action)
        state.withLock { state in
            state.heap.insert(Item(entry: entry))
            rearm(&state)
        }
        return SupervisionTimer { [weak self] in
            guard entry.take() != nil else { return }
            self?.cancelledOne()
        }
    }

    private func fire() {
        var due: [Entry] = []
        state.withLock { state in
            let now = self.now
            state.wakeUp = nil
            while let first = state.heap.min, first.entry.deadline <= now {
                state.heap.removeMin()
                due.append(first.entry)
            }
            rearm(&state)
        }
        for entry in due {
            if let action = entry.take() {
                action()
            } else {
                state.withLock { $0.cancelled = max(0, $0.cancelled - 1) }
            }
        }
    }

    private func rearm(_ state: inout State) {
        guard let first = state.heap.min?.entry.deadline else { return }
        if let wakeUp = state.wakeUp, wakeUp <= first { return }
        state.wakeUp = first
        let nanoseconds = max(first - now, .zero).wholeNanoseconds
        source.schedule(deadline: .now() + .nanoseconds(Int(nanoseconds)), leeway: .nanoseconds(0))
    }

    /// Cancelled entries stay in the heap, empty, until they are due or outnumber the others.
    private func cancelledOne() {
        state.withLock { state in
            state.cancelled += 1
            guard state.cancelled > 64, state.cancelled > state.heap.count / 2 else { return }
            let live = state.heap.unordered.filter { $0.entry.action.withLock { $0 != nil } }
            state.heap = Heap(live)
            state.cancelled = 0
        }
    }
}

import Dispatch
import HeapModule
import Synchronization

/// The timers of the OS process: one heap of deadlines on the monotonic clock, with a dedicated thread. They fire even while every thread
/// of Swift's cooperative pool is blocked.
public final class SystemTimers: Sendable {
    /// The shared instance of this OS process.
    public static let shared = SystemTimers()

    /// A scheduled action. Cancelling releases the action; an action that has begun is not interrupted.
    public struct Timer: Sendable {
        /// Cancels the action.
        public let onCancel: @Sendable () -> Void

        /// Cancels the timer.
        public func cancel() { onCancel() }
    }

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
    /// Dispatch objects may be used from any thread; the module merely does not declare that with `Sendable`.
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
    public func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> Timer {
        let entry = Entry(deadline: now + max(delay.clamped, .zero), action: action)
        state.withLock { state in
            state.heap.insert(Item(entry: entry))
            rearm(&state)
        }
        return Timer { [weak self] in
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

import Synchronization

/// Counts calls while somebody watches. Otherwise it costs one atomic load per call.
package final class CallObservation: Sendable {
    private struct State {
        var watchers = 0
        var statistics: CallStatistics?
    }

    private let isOn = Atomic(false)
    private let state = Mutex(State())

    package init() {}

    package var isWatched: Bool { isOn.load(ordering: .relaxed) }

    /// Counts calls from now on, until ``unwatch()`` has been called as often.
    package func watch() {
        state.withLock { state in
            state.watchers += 1
            if state.statistics == nil { state.statistics = CallStatistics(since: .now) }
            isOn.store(true, ordering: .relaxed)
        }
    }

    /// Ends watching. The last watcher's end drops the counts.
    package func unwatch() {
        state.withLock { state in
            state.watchers = max(0, state.watchers - 1)
            guard state.watchers == 0 else { return }
            state.statistics = nil
            isOn.store(false, ordering: .relaxed)
        }
    }

    package func record(destination: String = "", procedure: String, outcome: String, since start: CompactInstant) {
        let now = CompactInstant.now
        let key = CallStatistics.Key(destination: destination, procedure: procedure)
        state.withLock { state in
            state.statistics?.record(key, outcome: outcome, start.duration(to: now), at: now)
        }
    }

    /// The counts so far; `nil` while nobody watches.
    package var statistics: CallStatistics? { state.withLock { $0.statistics } }
}

/// A call in flight, for inspection, without its contents.
package struct CallInFlight: Sendable {
    package var id: String
    /// The called service; empty at the receiver.
    package var destination: String
    package var procedure: String
    package var age: Duration
    /// The time until its deadline.
    package var remaining: Duration
    package var stage: Stage
    /// How often it was passed to a channel.
    package var attempts: Int

    package enum Stage: String, Sendable {
        /// Waiting for a channel, a reply queue or a slot.
        case waiting
        /// Passed to a channel; waiting for the reply.
        case sent
        /// Its handler runs.
        case running
        /// Waiting for the answer to another request with the same id.
        case following
    }

    package init(
        id: String,
        destination: String = "",
        procedure: String,
        age: Duration,
        remaining: Duration,
        stage: Stage,
        attempts: Int = 0
    ) {
        self.id = id
        self.destination = destination
        self.procedure = procedure
        self.age = age
        self.remaining = remaining
        self.stage = stage
        self.attempts = attempts
    }
}

/// The oldest of many elements, in bounded memory.
package struct Oldest<Element: Sendable>: Sendable {
    private var kept: [(began: CompactInstant, element: Element)] = []
    private let limit: Int

    package init(limit: Int) {
        self.limit = max(0, limit)
    }

    package mutating func offer(_ began: CompactInstant, _ element: @autoclosure () -> Element) {
        if kept.count == limit {
            guard let youngest = kept.last, began < youngest.began else { return }
            kept.removeLast()
        }
        let place = kept.firstIndex { began < $0.began } ?? kept.endIndex
        kept.insert((began, element()), at: place)
    }

    /// The oldest first.
    package var elements: [Element] { kept.map(\.element) }
}

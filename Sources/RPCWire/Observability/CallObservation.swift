import Synchronization

/// Counts calls while somebody watches. While nobody does, it costs one load a call.
package final class CallObservation: Sendable {
    private struct State {
        var watchers = 0
        var statistics: CallStatistics?
    }

    private let isOn = Atomic(false)
    private let state = Mutex(State())

    package init() {}

    package var isWatched: Bool { isOn.load(ordering: .relaxed) }

    /// From here on calls are counted, until as many have called ``unwatch()``.
    package func watch() {
        state.withLock { state in
            state.watchers += 1
            if state.statistics == nil { state.statistics = CallStatistics(since: .now) }
            isOn.store(true, ordering: .relaxed)
        }
    }

    /// What was counted is dropped with the last who watches.
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

    /// What was counted so far; `nil` while nobody watches.
    package var statistics: CallStatistics? { state.withLock { $0.statistics } }
}

/// One call that is under way, as it is shown: nothing of what it carries.
package struct CallInFlight: Sendable {
    package var id: String
    /// The service that is called; empty at the receiver.
    package var destination: String
    package var procedure: String
    package var age: Duration
    /// Until its deadline.
    package var remaining: Duration
    package var stage: Stage
    /// How often it was handed to a channel.
    package var attempts: Int

    package enum Stage: String, Sendable {
        /// For a channel, a reply queue or a place.
        case waiting
        /// Handed to a channel; the reply is waited for.
        case sent
        /// Its handler runs.
        case running
        /// It waits for the answer to another request with the same id.
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

/// The oldest of many, in bounded memory: what is offered later and began earlier takes a place.
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

import Supervision

/// The prediction of what a tree does when one of its processes ends, from its specification alone: the rules of supervision as a value.
///
/// 1. A child is restarted according to its restart type: permanent always, transient after a crash or a kill, temporary never.
/// 2. Its siblings are restarted with it according to the strategy of their supervisor; a temporary sibling is then removed.
/// 3. A restarted supervisor starts all children of its description, and none that were added at run time.
/// 4. A restart, and each start that fails, counts towards the intensity. When that is exceeded, the supervisor ends with a shutdown, which
///   its own supervisor treats by rule 1, or it pauses and retries. A keyed supervisor counts per process, and may give up that process
///   alone.
/// 5. The permanent end of a significant child ends its supervisor with a shutdown, if that has an automatic shutdown.
///
/// It assumes that nothing else happens, that intensities are unused at first, and that no time passes except for backoffs.
struct Prediction {
    private enum Reason {
        case normal, shutdown, abnormal
    }

    private let places: [String: ProcessDescription]
    private let order: [String]
    private var removed: Set<String> = []
    private var gaveUp: Set<String> = []
    private var isStarting: Set<String> = []
    private var keepsTrying = false
    private var treeEnded = false
    private var isUncertain = false

    /// - Parameter places: The tree before, in start order.
    init(_ places: [ProcessDescription]) {
        order = places.map(\.key)
        self.places = Dictionary(places.map { ($0.key, $0) }) { first, _ in first }
    }

    /// The expectation when the process with this key ends in this way.
    static func expectation(_ places: [ProcessDescription], ending key: String, by way: Chaos.Way) -> Chaos.Expectation
    {
        var prediction = Prediction(places)
        switch way {
        case .crash, .kill: prediction.ended(key, .abnormal, failures: 0)
        case .normalEnd: prediction.ended(key, .normal, failures: 0)
        case .gracefulStop: prediction.ended(key, .shutdown, failures: 0)
        case .hang:
            switch prediction.places[key]?.onUnstoppable {
            case .escalate:
                guard let parent = prediction.places[key]?.parent else { fallthrough }
                prediction.ended(parent, .shutdown, failures: 0)
            case .abandon, .crashProcess, nil: prediction.ended(key, .abnormal, failures: 0)
            }
        case .failingRestart(.times(let times)): prediction.ended(key, .abnormal, failures: max(0, times))
        case .failingRestart(.always): prediction.ended(key, .abnormal, failures: .max)
        case .outside: break
        }
        return prediction.isUncertain ? .anything : .effects(prediction.effects)
    }

    /// The number of failed starts after which it is certain that retrying never ends.
    static func maximumFailures(_ places: [ProcessDescription], _ key: String) -> Int {
        let all = Dictionary(places.map { ($0.key, $0) }) { first, _ in first }
        var result = 5
        var next = all[key]?.parent
        while let parent = next.flatMap({ all[$0] }) {
            result = min(result, .max - 2 - parent.intensity.restarts) + parent.intensity.restarts + 1
            next = parent.parent
        }
        return result
    }

    private var effects: Chaos.Effects {
        if treeEnded { return Chaos.Effects(gaveUp: paths(gaveUp), treeEnded: true) }
        let lived = { (key: String) in places[key]?.pid != nil }
        return Chaos.Effects(
            restarted: paths(isStarting.filter(lived)),
            removed: paths(removed.filter { lived($0) && !isStarting.contains($0) }),
            appeared: paths(isStarting.filter { !lived($0) }),
            gaveUp: paths(gaveUp),
            keepsTrying: keepsTrying
        )
    }

    private func paths(_ keys: Set<String>) -> Set<String> { Set(keys.compactMap { places[$0]?.path }) }

    private func children(of key: String) -> [ProcessDescription] {
        order.compactMap { places[$0] }.filter { $0.parent == key }
    }

    private func subtree(_ key: String) -> [String] {
        [key] + children(of: key).flatMap { subtree($0.key) }
    }
}

extension Prediction {
    /// - Parameter failures: The number of starts that will fail.
    private mutating func ended(_ key: String, _ reason: Reason, failures: Int) {
        guard let place = places[key], let parent = place.parent.flatMap({ places[$0] }) else {
            treeEnded = true
            return
        }
        let isRestarted =
            switch place.restart {
            case .permanent: true
            case .transient: reason == .abnormal
            case .temporary: false
            }
        guard isRestarted else { return gone(place, parent, failures) }
        let attempts = failures == .max ? Int.max : failures + 1
        if attempts > parent.intensity.restarts {
            switch parent.whenExceeded {
            case .escalate:
                if place.backoff != nil {
                    // The total time of the backoffs is random, and so is whether they all fall into one period.
                    isUncertain = true
                    return
                }
                if parent.givesUpChild { return remove(place.key) }
                gaveUp.insert(parent.key)
                remove(place.key)
                // The starts that failed on the way are used up; each further one fails the start of the parent supervisor.
                let left = failures == .max ? .max : max(0, failures - parent.intensity.restarts)
                return ended(parent.key, .shutdown, failures: place.isDescribed ? left : 0)
            case .cooldown: if failures == .max { keepsTrying = true }
            }
        }
        restartGroup(place, parent)
    }

    private mutating func gone(_ place: ProcessDescription, _ parent: ProcessDescription, _ failures: Int) {
        remove(place.key)
        guard place.isSignificant, case .supervisor(_, let automatic) = parent.kind else { return }
        let othersLive = children(of: parent.key).contains { $0.isSignificant && $0.pid != nil && $0.key != place.key }
        switch automatic {
        case .never: return
        case .anySignificant: ended(parent.key, .shutdown, failures: failures)
        case .allSignificant: if !othersLive { ended(parent.key, .shutdown, failures: failures) }
        }
    }

    private mutating func restartGroup(_ place: ProcessDescription, _ parent: ProcessDescription) {
        let siblings = children(of: parent.key)
        let group: [ProcessDescription]
        switch parent.kind {
        case .supervisor(.oneForAll, _): group = siblings
        case .supervisor(.restForOne, _):
            group = Array(siblings.drop { $0.key != place.key })
        case .supervisor(.oneForOne, _), .dynamicSupervisor, .worker: group = [place]
        }
        for sibling in group {
            // A temporary sibling is stopped and removed; one that ended before has already been removed.
            switch sibling.restart {
            case .temporary: remove(sibling.key)
            case .permanent, .transient: start(sibling.key)
            }
        }
    }

    private mutating func remove(_ key: String) {
        removed.formUnion(subtree(key))
    }

    private mutating func start(_ key: String) {
        isStarting.insert(key)
        for child in children(of: key) {
            if child.isDescribed { start(child.key) } else { remove(child.key) }
        }
    }
}

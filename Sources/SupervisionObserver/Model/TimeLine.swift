import DequeModule
import Supervision

/// The events, and the known incarnations of each process: bounded, the oldest are dropped first.
struct TimeLine: Sendable {
    static let maximumEvents = 2000
    static let maximumPlaces = 1000
    static let maximumIncarnations = 20

    private struct Place: Sendable {
        var incarnations: [ProcessPage.Incarnation] = []
        /// Whether the next start belongs to the same child.
        var isRestarting = false
        var lastUsed: UInt64 = 0
    }

    private struct PlaceID: Hashable, Sendable {
        var tree: Int
        var key: String
    }

    private var events = Deque<EventDocument>()
    private var places: [PlaceID: Place] = [:]
    private(set) var lastNumber: UInt64 = 0

    /// Adds an event of a tree. `key` is the process's position, the same for all incarnations.
    ///
    /// - Parameter time: Milliseconds since 1970.
    mutating func add(
        _ event: SupervisionEvent,
        tree: Int,
        key: String,
        time: Int64,
        shown: ShownErrors
    ) -> EventDocument {
        var document = EventDocument(
            number: 0,
            time: time,
            tree: tree,
            path: DisplayText.line(event.path, limit: 1000),
            key: key,
            pid: event.pid?.description,
            kind: "",
            isExpected: true
        )
        switch event.kind {
        case .started: document.kind = "started"
        case .ignored: document.kind = "ignored"
        case .startFailed(let reason):
            document.kind = "start failed"
            document.reason = shown.text(reason)
            document.isExpected = false
        case .exited(let reason, let expected):
            document.kind = "exited"
            document.reason = shown.text(reason)
            document.isExpected = expected
        case .stopped(let reason, let expected):
            document.kind = "stopped"
            document.reason = shown.text(reason)
            document.isExpected = expected
        case .restarting(let delay):
            document.kind = "restarting"
            document.delay = delay.seconds
        case .coolingDown(let pause, let reason):
            document.kind = "cooling down"
            document.delay = pause.seconds
            document.reason = shown.text(reason)
            document.isExpected = false
        case .gaveUp(let reason):
            document.kind = "gave up"
            document.reason = shown.text(reason)
            document.isExpected = false
        case .abandoned:
            document.kind = "abandoned"
            document.isExpected = false
        }
        remember(event, document)
        return add(document)
    }

    /// Adds an event of the observer itself.
    mutating func add(_ document: EventDocument) -> EventDocument {
        lastNumber += 1
        var document = document
        document.number = lastNumber
        events.append(document)
        if events.count > Self.maximumEvents { events.removeFirst() }
        return document
    }

    private mutating func remember(_ event: SupervisionEvent, _ document: EventDocument) {
        let id = PlaceID(tree: document.tree, key: document.key)
        var place = places[id] ?? Place()
        place.lastUsed = lastNumber + 1
        switch event.kind {
        case .started:
            // Another child has taken the position of one that has ended for good.
            if let last = place.incarnations.last, last.ended != nil, !place.isRestarting { place.incarnations = [] }
            place.isRestarting = false
            if let pid = document.pid, place.incarnations.last?.pid != pid {
                place.incarnations.append(.init(pid: pid, started: document.time, isExpected: true))
            }
        case .exited, .stopped, .startFailed:
            if let pid = document.pid, place.incarnations.last?.pid != pid {
                place.incarnations.append(.init(pid: pid, isExpected: true))
            }
            if let last = place.incarnations.indices.last {
                place.incarnations[last].ended = document.time
                place.incarnations[last].reason = document.reason
                place.incarnations[last].isExpected = document.isExpected
            }
            if case .stopped = event.kind { place.isRestarting = true }
        case .restarting, .coolingDown: place.isRestarting = true
        case .gaveUp, .ignored, .abandoned: break
        }
        if place.incarnations.count > Self.maximumIncarnations { place.incarnations.removeFirst() }
        places[id] = place
        if places.count > Self.maximumPlaces { forgetOldestPlaces() }
    }

    /// A tenth at once, so that this is not needed for each event.
    private mutating func forgetOldestPlaces() {
        let uses = places.values.map(\.lastUsed).sorted()
        let limit = uses[min(uses.count - 1, Self.maximumPlaces / 10)]
        places = places.filter { $0.value.lastUsed > limit }
    }

    /// The incarnations of a process, newest first.
    func history(tree: Int, key: String) -> [ProcessPage.Incarnation] {
        places[PlaceID(tree: tree, key: key)]?.incarnations.reversed() ?? []
    }

    /// The newest events after `number`, in order.
    ///
    /// - Parameters:
    ///   - tree: Only events of this tree.
    ///   - key: Only events of the process at this position and its descendants.
    func page(after number: UInt64 = 0, tree: Int? = nil, key: String? = nil, limit: Int) -> EventPage {
        var found: [EventDocument] = []
        let prefix = key.map { $0 + "/" }
        for event in events.reversed() {
            guard event.number > number, found.count < limit else { break }
            if let tree, event.tree != tree { continue }
            if let key, let prefix, event.key != key, !event.key.hasPrefix(prefix) { continue }
            found.append(event)
        }
        return EventPage(events: found.reversed(), oldest: events.first?.number ?? 0)
    }
}

/// Whether a process is live and ready: the answers to the probes of an orchestrator.
///
///     let health = Health(of: pool, rpc, receiver)
///     health.isLive      // false: start the process again
///     health.isReady     // false: send it no work for the moment; `health.whyNot` says why
///
/// | | live | ready |
/// |---|---|---|
/// | not started yet, or starting | yes | no |
/// | works | yes | yes |
/// | the broker is unreachable, refuses the credentials, or accepts no messages | yes: a restart would not help | no |
/// | stopping, or stopped deliberately | yes: it must not be killed while it drains | no |
/// | a tree gave up, or failed to start | no | no |
///
/// Reading it asks no process and waits for nothing, so a probe is answered however busy the process is. It contains no credentials.
public struct Health: Sendable, Hashable, Codable {
    /// The health of one part of the process.
    public struct Part: Sendable, Hashable, Codable {
        /// The part's name.
        public var name: String
        /// Whether the part is alive. A dead part does not come back by itself.
        public var isLive: Bool
        /// Whether the part does its work.
        public var isReady: Bool
        /// Why the part is dead or not ready; `nil` when it is ready.
        public var why: String?

        /// Creates a part.
        public init(_ name: String, isLive: Bool = true, isReady: Bool, why: String? = nil) {
            self.name = name
            self.isLive = isLive
            self.isReady = isLive && isReady
            self.why = why
        }

        /// A part that works.
        public static func ready(_ name: String) -> Part { Part(name, isReady: true) }

        /// A part that is alive but does not work at present.
        public static func notReady(_ name: String, why: String) -> Part { Part(name, isReady: false, why: why) }

        /// A part that does not come back by itself.
        public static func dead(_ name: String, why: String) -> Part {
            Part(name, isLive: false, isReady: false, why: why)
        }
    }

    /// The parts, in the order in which they were passed.
    public var parts: [Part]

    /// The current health of these parts.
    public init(of parts: any HealthReporting...) {
        self.init(parts.map(\.health))
    }

    /// The current health of these parts.
    public init(of parts: [any HealthReporting]) {
        self.init(parts.map(\.health))
    }

    /// Creates a health from these parts.
    public init(_ parts: [Part]) {
        self.parts = parts
    }

    /// Whether every part is alive.
    public var isLive: Bool { parts.allSatisfy(\.isLive) }

    /// Whether every part is alive and ready.
    public var isReady: Bool { parts.allSatisfy { $0.isLive && $0.isReady } }

    /// The name and the reason of each part that is not ready, one line each.
    public var whyNot: [String] {
        parts.filter { !$0.isReady }.map { "\($0.name): \($0.why ?? "not ready")" }
    }
}

extension Health: CustomStringConvertible {
    /// "ready", or the reasons why not.
    public var description: String {
        if isReady { return "ready" }
        return (isLive ? "not ready: " : "not live: ") + whyNot.joined(separator: "; ")
    }
}

/// Something that reports its health without waiting.
public protocol HealthReporting: Sendable {
    /// The current health.
    var health: Health.Part { get }
}

extension Supervisor: HealthReporting {
    /// The health of the tree, if this is its root: ready from the moment all its children are running until it begins to shut down. For a
    /// supervisor inside another tree, ask the root.
    public var health: Health.Part {
        let name = specification.name
        guard let current else {
            guard let failure else { return .notReady(name, why: "not running") }
            return .dead(name, why: "\(failure)")
        }
        if let reason = current.endingReason { return .notReady(name, why: "stopping: \(reason)") }
        return current.hasBooted ? .ready(name) : .notReady(name, why: "starting")
    }
}

extension ChildReference: HealthReporting where A: HealthReporting {
    /// The health of the child; not ready while it has no running incarnation.
    public var health: Health.Part {
        do {
            return try resolve().health
        } catch {
            return .notReady(path, why: "\(error)")
        }
    }
}

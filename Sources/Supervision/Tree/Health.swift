/// Whether a process lives and is ready: what the probes of whatever runs it ask for.
///
///     let health = Health(of: pool, rpc, receiver)
///     health.isLive      // false: start the process again
///     health.isReady     // false: send it no work for the moment; `health.whyNot` says why
///
/// | | live | ready |
/// |---|---|---|
/// | not started yet, or starting | yes | no |
/// | works | yes | yes |
/// | the broker is gone, refuses the credentials, or accepts no messages | yes: nothing would be better after a restart | no |
/// | stopping, or stopped on purpose | yes: it must not be killed while it drains | no |
/// | a tree gave up, or could not start | no | no |
///
/// Looking asks no process and waits for nothing, so a probe is answered however busy the process is. Nothing in it is a credential.
public struct Health: Sendable, Hashable, Codable {
    /// How one part of the process is.
    public struct Part: Sendable, Hashable, Codable {
        /// What it is called.
        public var name: String
        /// Whether it lives. What does not live does not come back by itself.
        public var isLive: Bool
        /// Whether it does its work.
        public var isReady: Bool
        /// Why it does not live, or is not ready; `nil` when all is well.
        public var why: String?

        /// A part.
        public init(_ name: String, isLive: Bool = true, isReady: Bool, why: String? = nil) {
            self.name = name
            self.isLive = isLive
            self.isReady = isLive && isReady
            self.why = why
        }

        /// One that works.
        public static func ready(_ name: String) -> Part { Part(name, isReady: true) }

        /// One that lives and does not work at present.
        public static func notReady(_ name: String, why: String) -> Part { Part(name, isReady: false, why: why) }

        /// One that does not come back by itself.
        public static func dead(_ name: String, why: String) -> Part {
            Part(name, isLive: false, isReady: false, why: why)
        }
    }

    /// The parts that were asked, in their order.
    public var parts: [Part]

    /// The health of these parts now.
    public init(of parts: any HealthReporting...) {
        self.init(parts.map(\.health))
    }

    /// The health of these parts now.
    public init(of parts: [any HealthReporting]) {
        self.init(parts.map(\.health))
    }

    /// A health of these parts.
    public init(_ parts: [Part]) {
        self.parts = parts
    }

    /// Whether every part lives.
    public var isLive: Bool { parts.allSatisfy(\.isLive) }

    /// Whether every part lives and does its work.
    public var isReady: Bool { parts.allSatisfy { $0.isLive && $0.isReady } }

    /// A line for each part that is not ready: its name and why.
    public var whyNot: [String] {
        parts.filter { !$0.isReady }.map { "\($0.name): \($0.why ?? "not ready")" }
    }
}

extension Health: CustomStringConvertible {
    /// "ready", or why it is not.
    public var description: String {
        if isReady { return "ready" }
        return (isLive ? "not ready: " : "not live: ") + whyNot.joined(separator: "; ")
    }
}

/// Something whose health can be asked for, without waiting.
public protocol HealthReporting: Sendable {
    /// How it is now.
    var health: Health.Part { get }
}

extension Supervisor: HealthReporting {
    /// How the tree is, when this is its root: ready from the moment in which all its children are up until it is to end. In another
    /// supervisor's tree, ask the root.
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
    /// How the child is; not ready while there is none.
    public var health: Health.Part {
        do {
            return try resolve().health
        } catch {
            return .notReady(path, why: "\(error)")
        }
    }
}

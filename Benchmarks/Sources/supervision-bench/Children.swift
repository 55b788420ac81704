import ArgumentParser
import Logging
import Supervision

/// What a child is.
enum Kind: String, ExpressibleByArgument, CaseIterable {
    /// An actor without `run()`.
    case actor
    /// The same, started inline.
    case inline
    /// An actor whose `run()` is its life: it waits to be stopped.
    case worker
}

/// Does nothing.
actor Idle {}

/// Does nothing until it is asked to stop.
actor Waiting: Worker {
    private let context: ChildContext
    private let arrivals: Arrivals?

    init(_ context: ChildContext, _ arrivals: Arrivals?) {
        self.context = context
        self.arrivals = arrivals
    }

    func run() async {
        arrivals?.up(context.pid)
        await context.stopRequest.wait()
    }
}

extension Kind {
    /// A child of this kind, which tells when it is up.
    func child(_ id: String, _ arrivals: Arrivals? = nil) -> Child {
        switch self {
        case .actor:
            Child(id) { context in
                arrivals?.up(context.pid)
                return Idle()
            }
        case .inline:
            Child.inline(id) { context in
                arrivals?.up(context.pid)
                return Idle()
            }
        case .worker:
            Child(id) { context in Waiting(context, arrivals) }
        }
    }
}

/// As many restarts as a case needs; the other side allows as many.
let manyRestarts = RestartIntensity(10_000_000, within: .seconds(1))

let silent = Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }

func flat(_ kind: Kind, _ children: Int, _ arrivals: Arrivals? = nil) -> Supervisor {
    Supervisor("bench", intensity: manyRestarts, logger: silent) {
        (1...children).map { kind.child("\($0)", arrivals) }
    }
}

func dynamic() -> DynamicSupervisor {
    DynamicSupervisor("bench", intensity: manyRestarts, logger: silent)
}

/// Starts so many children of a template one after the other.
func startChildren(_ count: Int, _ kind: Kind, in supervisor: DynamicSupervisor) async throws {
    let reference = supervisor.reference
    // Which child it is: a template has an argument.
    let idle = ChildTemplate("child") { (_: Int, _) in Idle() }
    let inline = ChildTemplate.inline("child") { (_: Int, _) in Idle() }
    let waiting = ChildTemplate("child") { (_: Int, context) in Waiting(context, nil) }
    for number in 0..<count {
        switch kind {
        case .actor: _ = try await reference.startChild(idle, with: number)
        case .inline: _ = try await reference.startChild(inline, with: number)
        case .worker: _ = try await reference.startChild(waiting, with: number)
        }
    }
}

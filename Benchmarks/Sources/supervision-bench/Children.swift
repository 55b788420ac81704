import ArgumentParser
import Logging
import Supervision

/// What a child is.
enum Kind: String, ExpressibleByArgument, CaseIterable {
    /// An actor without `run()`.
    case actor
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

/// Starts so many children one after the other.
func startChildren(_ count: Int, _ kind: Kind, in supervisor: DynamicSupervisor) async throws {
    let reference = supervisor.reference
    for _ in 0..<count { try await reference.startChild(kind.child("child")) }
}

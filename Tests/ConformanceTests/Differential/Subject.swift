import Logging
import SupervisionTesting
import Synchronization

@testable import Supervision

/// Our supervisor in a scenario: builds the tree, does what the steps say, and writes the trace as the oracle does.
final class Subject: Sendable {
    private struct Live {
        var pid: Pid
        /// `nil` for a supervisor.
        var kind: Scenario.Kind?
        var order: Order?
    }

    private struct State {
        var root: Pid?
        var names: [Pid: String] = [:]
        var counts: [String: Int] = [:]
        var live: [String: Live] = [:]
        var plans: [String: [Scenario.Plan]] = [:]
        var lines: [String] = []
        var results: [String] = []
        var calls: [Task<Void, Never>] = []
    }

    private let state = Mutex(State())
    /// Whether the children without `run()` start inline.
    private let startsInline: Bool

    private init(startsInline: Bool) {
        self.startsInline = startsInline
    }

    static func run(_ scenario: Scenario, startsInline: Bool = false) async -> Trace {
        await Subject(startsInline: startsInline).run(scenario)
    }

    private func run(_ scenario: Scenario) async -> Trace {
        var steps: [[String]] = []
        for (path, plans) in scenario.plans { plan(path, plans) }
        let supervisor = root(scenario.root)
        do {
            try await supervisor.start()
            result("boot", "ok")
        } catch {
            result("boot", Subject.reason(String(describing: ExitReason.shutdown(cause: error))))
        }
        steps.append(await finish(supervisor))
        for step in scenario.steps where supervisor.pid != nil {
            await perform(step, supervisor)
            steps.append(await finish(supervisor))
        }
        if supervisor.pid != nil {
            await supervisor.stop()
            steps.append(await finish(supervisor))
        }
        return Trace(steps: steps)
    }

    // MARK: - Steps

    private func perform(_ step: Scenario.Step, _ supervisor: Supervisor) async {
        switch step {
        case .plan(let path, let plans): plan(path, plans)
        case .end(let path, let ending):
            guard let live = state.withLock({ $0.live[path] }), end(live, ending) else { return }
            _ = await live.pid.exited()
        case .stop(let path, let ending):
            guard let live = state.withLock({ $0.live[path] }), live.kind == nil else { return }
            switch ending {
            case .kill: live.pid.kill()
            case .crash: live.pid.crash(ScenarioError.crash)
            case .cause: live.pid.exit(.shutdown(cause: ScenarioError.cause))
            case .shutdown: live.pid.exit(.shutdown())
            case .normal:
                // Ignored.
                live.pid.exit(.normal)
                return
            }
            _ = await live.pid.exited()
        case .admin(let path, let operation):
            guard let reference = reference(path, supervisor) else { return }
            await call(reference, operation)
        }
    }

    /// False when it does not apply to a child of this kind.
    private func end(_ live: Live, _ ending: Scenario.Ending) -> Bool {
        switch (live.kind, ending) {
        case (nil, _), (.actor, .normal), (.grumpy, .shutdown), (.grumpy, .cause): return false
        case (_, .kill): live.pid.kill()
        case (_, .shutdown): live.pid.exit(.shutdown())
        case (_, .cause): live.pid.exit(.shutdown(cause: ScenarioError.cause))
        case (.actor, .crash): live.pid.crash(ScenarioError.crash)
        case (_, .crash): live.order?.give(.failure(ScenarioError.crash))
        case (_, .normal): live.order?.give(.success(()))
        }
        return true
    }

    private func plan(_ path: String, _ plans: [Scenario.Plan]) {
        state.withLock { $0.plans[path, default: []].append(contentsOf: plans) }
    }

    private func reference(_ path: String, _ supervisor: Supervisor) -> SupervisorReference? {
        guard var reference = try? supervisor.reference() else { return nil }
        for name in path.split(separator: "/").dropFirst() {
            guard let next = try? reference.supervisor(String(name)) else { return nil }
            reference = next
        }
        return reference
    }

    private func call(_ supervisor: SupervisorReference, _ operation: Scenario.Operation) async {
        let answer: String
        do throws(AdministrationError) {
            switch operation {
            case .startChild(let node):
                answer = "ok " + name(try await supervisor.startChild(child(node, under: supervisor.path)))
            case .restartChild(let id): answer = "ok " + name(try await supervisor.restartChild(id))
            case .terminateChild(let id):
                try await supervisor.terminateChild(id)
                answer = "ok"
            case .deleteChild(let id):
                try await supervisor.deleteChild(id)
                answer = "ok"
            }
        } catch {
            answer =
                switch error {
                case .noProcess: "noproc"
                case .notFound: "not_found"
                case .alreadyStarted: "already_started"
                case .alreadyPresent: "already_present"
                case .running: "running"
                case .restarting: "restarting"
                case .startFailed(_, let reason): "error " + Subject.reason(reason.description)
                case .invalidSpecification(let text): "invalid: " + text
                case .tooManyChildren: "too_many_children"
                case .cancelled: "cancelled"
                }
        }
        result(supervisor.path + " " + operation.text, answer)
    }

    private func name(_ pid: Pid?) -> String {
        pid.map { pid in state.withLock { $0.names[pid] } ?? "?" } ?? "undefined"
    }

    private func result(_ what: String, _ answer: String) {
        state.withLock { $0.results.append("result \(what): \(answer)") }
    }

    /// Waits for rest, and returns the step's lines and what the supervisors say.
    private func finish(_ supervisor: Supervisor) async -> [String] {
        while true {
            _ = await supervisor.settled()
            let calls = state.withLock { state in
                defer { state.calls = [] }
                return state.calls
            }
            if calls.isEmpty { break }
            for call in calls { await call.value }
        }
        if supervisor.pid == nil {
            // It has ended, but perhaps only just: its last line is written when its end is announced.
            _ = await state.withLock { $0.root }?.exited()
        }
        var lines = state.withLock { state in
            defer {
                state.lines = []
                state.results = []
            }
            return state.lines + state.results.sorted()
        }
        if let root = try? supervisor.reference() { appendState(of: root, to: &lines) }
        return lines
    }

    private func appendState(of supervisor: SupervisorReference, to lines: inout [String]) {
        let children = supervisor.whichChildren()
        let counts = supervisor.countChildren()
        let list = children.map { child in
            child.status == .restarting ? "\(child.id)=restarting" : "\(child.id)=\(name(child.pid))"
        }
        lines.append(
            (["state", name(supervisor.pid)] + list).joined(separator: " ")
                + " counts \(counts.specifications) \(counts.active) \(counts.supervisors) \(counts.workers)"
        )
        for child in children.reversed() where child.isSupervisor && child.pid != nil {
            guard let next = try? supervisor.supervisor(child.id) else { continue }
            appendState(of: next, to: &lines)
        }
    }

    // MARK: - The tree

    private func root(_ node: Scenario.Node) -> Supervisor {
        var logger = Logger(label: "conformance") { _ in ReportHandler(subject: self) }
        logger.logLevel = .error
        guard case .supervisor(let strategy, let intensity, let autoShutdown, let children) = node.body else {
            return Supervisor(node.id) {}
        }
        return Supervisor(
            node.id,
            strategy: strategy,
            intensity: RestartIntensity(intensity, within: .seconds(3600)),
            autoShutdown: autoShutdown,
            logger: logger,
            clock: ManualClock()
        ) {
            for child in children { self.child(child, under: node.id) }
        }
    }

    private func child(_ node: Scenario.Node, under parent: String) -> Child {
        let path = parent + "/" + node.id
        switch node.body {
        case .supervisor(let strategy, let intensity, let autoShutdown, let children):
            return Child(
                supervisor: SupervisorSpecification(
                    name: node.id,
                    kind: .ordered(strategy),
                    intensity: RestartIntensity(intensity, within: .seconds(3600)),
                    whenExceeded: .escalate,
                    autoShutdown: autoShutdown,
                    restart: node.restart,
                    shutdown: node.shutdown,
                    isSignificant: node.isSignificant,
                    backoff: nil,
                    children: children.map { self.child($0, under: path) }
                )
            )
        case .child(.actor) where startsInline:
            return Child.inline(
                node.id,
                restart: node.restart,
                options: ChildOptions(shutdown: node.shutdown, significant: node.isSignificant)
            ) { context in try self.startInline(context, path) ? Idler() : nil }
        case .child(.actor):
            return Child(
                node.id,
                restart: node.restart,
                options: ChildOptions(shutdown: node.shutdown, significant: node.isSignificant)
            ) { context in try await self.start(context, path, .actor, nil) ? Idler() : nil }
        case .child(let kind):
            return Child(
                node.id,
                restart: node.restart,
                options: ChildOptions(shutdown: node.shutdown, significant: node.isSignificant)
            ) { context in
                let order = Order()
                if kind != .worker {
                    let answer: Result<Void, any Error> =
                        kind == .grumpy ? .failure(ScenarioError.crash) : .success(())
                    context.stopRequest.onRequest { order.give(answer) }
                }
                return try await self.start(context, path, kind, order) ? Obedient(order) : nil
            }
        }
    }

    /// What every start closure does: says so, lets happen what the plan says, and succeeds, fails or ignores.
    private func start(
        _ context: ChildContext,
        _ path: String,
        _ kind: Scenario.Kind,
        _ order: Order?
    ) async throws -> Bool {
        let (name, plan) = begin(context, path)
        for action in plan.meanwhile { await perform(action, context.supervisor) }
        return try end(context, path, plan, name, kind, order)
    }

    /// The same without waiting: the supervisor, on whose thread it runs, hears of what happens meanwhile when it has returned.
    private func startInline(_ context: ChildContext, _ path: String) throws -> Bool {
        let (name, plan) = begin(context, path)
        for action in plan.meanwhile {
            switch action {
            case .admin(let operation): call(operation, context.supervisor)
            case .end(let id, let ending):
                let live = state.withLock { $0.live[context.supervisor.path + "/" + id] }
                if let live, live.kind == .actor { _ = end(live, ending) }
            }
        }
        return try end(context, path, plan, name, .actor, nil)
    }

    private func begin(_ context: ChildContext, _ path: String) -> (name: String, Scenario.Plan) {
        introduce(context.supervisor)
        return state.withLock { state in
            let prefix = state.names[context.supervisor.pid] ?? "?"
            let name = Subject.nextName(prefix + "/" + context.id, &state)
            let plan = state.plans[path]?.isEmpty == false ? state.plans[path]?.removeFirst() : nil
            return (name, plan ?? Scenario.Plan())
        }
    }

    private func end(
        _ context: ChildContext,
        _ path: String,
        _ plan: Scenario.Plan,
        _ name: String,
        _ kind: Scenario.Kind,
        _ order: Order?
    ) throws -> Bool {
        switch plan.outcome {
        case .fail: throw ScenarioError.fail
        case .ignore: return false
        case .ok:
            enter(context.pid, name, path, Live(pid: context.pid, kind: kind, order: order))
            return true
        }
    }

    private func perform(_ action: Scenario.Meanwhile, _ supervisor: SupervisorReference) async {
        switch action {
        case .admin(let operation): call(operation, supervisor)
        case .end(let id, let ending):
            guard let live = state.withLock({ $0.live[supervisor.path + "/" + id] }), live.kind == .actor else {
                return
            }
            guard end(live, ending) else { return }
            _ = await live.pid.exited()
            // The supervisor is told next: then the exit waits in its queue, as OTP's does in the mailbox.
            while isRunning(live.pid, under: supervisor) { await Task.yield() }
        }
    }

    private func call(_ operation: Scenario.Operation, _ supervisor: SupervisorReference) {
        // Immediate: it runs on this thread until it waits for its answer, so that it is in the mailbox when it returns.
        if #available(macOS 26, *) {
            let call = Task.immediate { await self.call(supervisor, operation) }
            state.withLock { $0.calls.append(call) }
        }
    }

    /// Whether the supervisor takes this process for running.
    private func isRunning(_ pid: Pid, under supervisor: SupervisorReference) -> Bool {
        supervisor.process.snapshot().contains { _, record, incarnation, _ in
            guard case .running = record.status else { return false }
            return incarnation?.pid == pid
        }
    }

    /// Supervisors have no start closure: they are met at the first start of a child of theirs.
    private func introduce(_ supervisor: SupervisorReference) {
        let isKnown = state.withLock { $0.names[supervisor.pid] != nil }
        if isKnown { return }
        if let parent = supervisor.parent { introduce(parent) }
        let name = state.withLock { state in
            if supervisor.parent == nil { state.root = supervisor.pid }
            let prefix = supervisor.parent.map { (state.names[$0.pid] ?? "?") + "/" } ?? ""
            return Subject.nextName(prefix + supervisor.name, &state)
        }
        enter(supervisor.pid, name, supervisor.path, Live(pid: supervisor.pid, kind: nil, order: nil))
    }

    private static func nextName(_ place: String, _ state: inout State) -> String {
        let count = state.counts[place, default: 0] + 1
        state.counts[place] = count
        state.lines.append("start \(place)#\(count)")
        return "\(place)#\(count)"
    }

    private func enter(_ pid: Pid, _ name: String, _ path: String, _ live: Live) {
        state.withLock { state in
            state.names[pid] = name
            state.live[path] = live
        }
        pid.onExit { [weak self] reason in
            self?.state.withLock { state in
                if state.live[path]?.pid == pid { state.live[path] = nil }
                state.lines.append("stop \(name) \(Subject.reason(reason.description))")
            }
        }
    }

    // MARK: - Reasons and reports

    fileprivate func report(_ context: String, _ path: String, _ reason: String) {
        // giveUpReason
        let reason = context == "shutdown" ? "" : " " + Subject.reason(reason)
        state.withLock { $0.lines.append("report \(context) \(path)\(reason)") }
    }

    /// The description of an exit reason as the oracle writes it.
    static func reason(_ description: String) -> String {
        func after(_ prefix: String) -> String? {
            description.hasPrefix(prefix) ? String(description.dropFirst(prefix.count)) : nil
        }
        if let error = after("crashed: ") { return error }
        guard let cause = after("shutdown: ") else { return description }
        // exitCarriesCause
        if cause.contains("gave up: restart intensity exceeded") { return "shutdown" }
        guard cause.hasPrefix("'"), let end = cause.dropFirst().firstIndex(of: "'"),
            let open = cause[end...].firstIndex(of: "(")
        else { return "shutdown(\(cause))" }
        let id = cause[..<end].split(separator: "/").last.map(String.init) ?? "?"
        let inner = String(cause[cause.index(after: open)...].dropLast())
        return "shutdown(failed \(id): \(reason(inner)))"
    }
}

/// Receives what the tree logs, in the order and on the thread of its doing.
private struct ReportHandler: LogHandler {
    let subject: Subject
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .error

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let metadata = event.metadata ?? [:]
        subject.report(
            metadata["supervision.context"].map { "\($0)" } ?? "?",
            metadata["supervision.path"].map { "\($0)" } ?? "?",
            metadata["supervision.reason"].map { "\($0)" } ?? ""
        )
    }
}

import Logging
import Supervision
import Testing

private let silent = Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() }

/// Tells in its `terminate(reason:)` whether the task that runs it has been cancelled.
private actor Closing: Worker {
    enum End: CaseIterable {
        case byItself, byError, asked, cancelled
    }

    private let end: End
    private let stop: StopRequest?
    private let journal: Journal

    init(_ context: ChildContext, _ end: End, _ journal: Journal) {
        self.end = end
        self.journal = journal
        // A worker that never takes it is cancelled instead of asked.
        stop = end == .asked ? context.stopRequest : nil
    }

    func run() async throws {
        journal.write("runs")
        switch end {
        case .byItself: return
        case .byError: throw TestFailure()
        case .asked: await stop?.wait()
        case .cancelled: try await Task.sleep(for: .seconds(3600))
        }
    }

    func terminate(reason: ExitReason) async {
        journal.write("cancelled: \(Task.isCancelled)")
        // Something that would be refused in a cancelled task.
        try? await Task.sleep(for: .milliseconds(1))
        journal.write("slept: \(!Task.isCancelled)")
    }
}

@Suite("terminate(reason:)", .timeLimit(.minutes(5)))
struct TerminateTests {
    @Test("is never cancelled, however the worker ended", arguments: Closing.End.allCases)
    fileprivate func notCancelled(_ end: Closing.End) async throws {
        let journal = Journal()
        let supervisor = Supervisor("app", logger: silent) {
            Child("worker", restart: .temporary) { context in Closing(context, end, journal) }
        }
        try await supervisor.start()
        await journal.wait(for: "runs")
        await supervisor.stop()
        await journal.wait(for: "slept: true")
        #expect(journal.entries == ["runs", "cancelled: false", "slept: true"])
    }
}

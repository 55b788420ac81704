import ConcurrencyPrimitives
import DequeModule
import Synchronization

/// The order of a stream's results.
public enum TaskOrder: Sendable, Hashable {
    /// In the order of the elements: a slow element delays those after it.
    case ofElements
    /// In the order of completion.
    case ofCompletion
}

/// What happens when the task of an element exceeds the stream's time limit.
public enum OnTaskTimeout: Sendable, Hashable {
    /// The task is killed, its result is ``TaskResult/timedOut(after:)``, and the stream continues.
    case kill
    /// All tasks of the stream are killed, and it throws ``CallError/timeout(child:after:)``.
    case fail
}

/// The results of one operation over many elements, each with its element.
///
///     for try await (name, result) in tasks.stream(over: names, timeout: .seconds(5), onTimeout: .kill, resolve) { ... }
public struct TaskOutcomes<S: Sequence & Sendable, R: Sendable>: AsyncSequence, Sendable where S.Element: Sendable {
    /// An element and its result.
    public typealias Element = (input: S.Element, result: TaskResult<R>)

    let tasks: TaskSupervisorReference
    let elements: S
    let maximumConcurrency: Int
    let order: TaskOrder
    let timeout: Duration?
    let onTimeout: OnTaskTimeout
    let operation: @Sendable (S.Element) async throws -> R

    /// Nothing is started before the first result is requested.
    public func makeAsyncIterator() -> Iterator {
        Iterator(outcomes: self)
    }

    /// Keeps up to `maximumConcurrency` tasks running ahead of the reader.
    public final class Iterator: AsyncIteratorProtocol {
        private struct Running {
            let input: S.Element
            let task: SupervisedTask<R>
            let timer: SupervisionTimer?
        }

        private let outcomes: TaskOutcomes
        private var elements: S.Iterator
        /// By number, in the order of the elements.
        private var running: [Int: Running] = [:]
        private var started = 0
        private var given = 0
        private let finished = FinishedTasks()

        init(outcomes: TaskOutcomes) {
            self.outcomes = outcomes
            elements = outcomes.elements.makeIterator()
        }

        deinit {
            killAll()
        }

        /// The next result; `nil` after the last.
        ///
        /// - Throws: ``AdministrationError`` when a task could not be started; ``CallError/timeout(child:after:)`` with
        ///   ``OnTaskTimeout/fail``; `CancellationError`.
        public func next() async throws -> Element? {
            while running.count < outcomes.maximumConcurrency, let element = elements.next() {
                try await start(element)
            }
            guard !running.isEmpty else { return nil }
            let number: Int
            switch outcomes.order {
            case .ofElements: number = given
            case .ofCompletion: number = try await finished.next()
            }
            guard let next = running[number] else { return nil }
            let result = try await next.task.result
            given += 1
            running[number] = nil
            next.timer?.cancel()
            if case .timedOut(let duration) = result, outcomes.onTimeout == .fail {
                killAll()
                throw CallError.timeout(child: "\(next.task.pid)", after: duration)
            }
            return (next.input, result)
        }

        private func start(_ element: S.Element) async throws {
            let (number, operation) = (started, outcomes.operation)
            var onFinish: (@Sendable () -> Void)?
            // Only needed for the order of completion: otherwise nobody removes the numbers.
            if outcomes.order == .ofCompletion { onFinish = { [finished] in finished.add(number) } }
            let outcome = TaskOutcome<R>(onFinish: onFinish)
            let task = try await outcomes.tasks.start(
                "task",
                linkedTo: nil,
                options: ChildOptions(),
                outcome
            ) { _ in try await operation(element) }
            started += 1
            let timer = outcomes.timeout.map { timeout in
                task.clock.schedule(after: timeout) {
                    if outcome.finish(.timedOut(after: timeout)) { task.pid.kill() }
                }
            }
            running[number] = Running(input: element, task: task, timer: timer)
        }

        private func killAll() {
            for entry in running.values {
                entry.timer?.cancel()
                entry.task.pid.kill()
            }
            running = [:]
        }
    }
}

/// The numbers of finished tasks that have not been delivered to the reader: at most as many as run concurrently.
private final class FinishedTasks: Sendable {
    private struct State {
        var numbers: Deque<Int> = []
        var bell: OneShot<Void>?
    }

    private let state = Mutex(State())

    func add(_ number: Int) {
        let bell = state.withLock { state in
            state.numbers.append(number)
            return state.bell.take()
        }
        bell?.set(())
    }

    func next() async throws(CancellationError) -> Int {
        while true {
            let bell = OneShot<Void>()
            let number = state.withLock { state -> Int? in
                if let number = state.numbers.popFirst() { return number }
                state.bell = bell
                return nil
            }
            if let number { return number }
            try await bell.value()
        }
    }
}

import Logging
package import NIOCore
import Synchronization

/// Runs the jobs of tasks on an event loop. NIO has executors for actors only.
package final class EventLoopExecutor: TaskExecutor {
    private let eventLoop: any EventLoop
    private let watch: LoopWatch

    package init(_ eventLoop: any EventLoop, logger: Logger) {
        self.eventLoop = eventLoop
        watch = LoopWatch(logger: logger)
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        eventLoop.execute { [self] in
            let start = NIODeadline.now()
            job.runSynchronously(on: asUnownedTaskExecutor())
            watch.ran(since: start, "a task on the pool's executor")
        }
    }
}

/// Warns when something holds an event loop for too long, because all connections of the loop wait in the meantime.
package final class LoopWatch: Sendable {
    /// How long the event loop may be held without a warning.
    static let limit = TimeAmount.milliseconds(5)
    private static let interval = TimeAmount.minutes(1)

    private let logger: Logger
    private let quietUntil = Atomic<UInt64>(0)

    package init(logger: Logger) {
        self.logger = logger
    }

    /// Something has run on the event loop from `start` until now.
    package func ran(since start: NIODeadline, _ what: @autoclosure () -> String) {
        let now = NIODeadline.now()
        guard now - start > Self.limit else { return }
        let quiet = quietUntil.load(ordering: .relaxed)
        guard now.uptimeNanoseconds >= quiet else { return }
        let next = (now + Self.interval).uptimeNanoseconds
        guard quietUntil.compareExchange(expected: quiet, desired: next, ordering: .relaxed).exchanged else { return }
        logger.warning(
            "\(what()) held the event loop of the connections: it must not block there",
            metadata: ["held": "\((now - start).nanoseconds / 1_000_000) ms"]
        )
    }
}

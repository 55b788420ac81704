import Dispatch
import Foundation
import Synchronization

/// Runs its jobs in order on a thread that runs nothing else: the pool and dispatch queues share theirs.
package final class ThreadExecutor: TaskExecutor {
    /// The jobs to run; `nil` ends the thread.
    private let jobs = Mutex<[UnownedJob?]>([])
    private let count = DispatchSemaphore(value: 0)

    package init() {
        let thread = Thread { [self] in
            while true {
                count.wait()
                guard let job = jobs.withLock({ $0.removeFirst() }) else { return }
                job.runSynchronously(on: asUnownedTaskExecutor())
            }
        }
        // As large as that of the main thread.
        thread.stackSize = 8 << 20
        thread.start()
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
        count.signal()
    }

    package func end() {
        jobs.withLock { $0.append(nil) }
        count.signal()
    }
}

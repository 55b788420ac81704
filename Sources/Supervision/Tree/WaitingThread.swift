#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A thread that has nothing to do until a start closure has returned, and therefore begins it itself, without a new task's turn on the
/// thread pool.
///
/// Such a thread is that of a caller who adds a child (``SupervisorProcess/administer(_:bringing:with:)``), and one whose task has just ended.
/// The caller who starts a tree lends none: that caller must be able to give up a child that blocks its thread.
///
/// The closure runs in a task of its own all the same: without task-local values, able to be cancelled, and on the pool after its first
/// suspension. At most one start waits for the thread, and no lock is held and no mailbox is being drained while its closure runs. A
/// closure that blocks therefore delays nobody but the caller who waits for it.
enum WaitingThread {
    /// The starts that the thread takes.
    enum Scope {
        /// That of the child which this supervisor adds on request.
        case request(of: SupervisorProcess)
        /// Whatever is to be started because of what the thread's task did last.
        case all
    }

    private struct Frame {
        let scope: Scope
        /// The number of the request, once it has one.
        var request: UInt64?
        /// The start that waits for the thread.
        var next: ChildProcess?
        /// The start whose closure is running on the thread.
        var running: ChildProcess?

        func takes(_ child: ChildProcess) -> Bool {
            guard next == nil, running == nil else { return false }
            switch scope {
            case .request(let owner): return child.owner === owner && child.entry == request && child.incarnation == 0
            case .all: return true
            }
        }
    }

    private static let key = ThreadKey()

    private static var frame: UnsafeMutablePointer<Frame>? {
        key.value.flatMap { pthread_getspecific($0) }?.assumingMemoryBound(to: Frame.self)
    }

    /// Calls `body`, and then begins on this thread the starts that it caused and that are in `scope`.
    ///
    /// A task that prefers an executor, perhaps that of an event loop, does not lend its thread.
    static func beginsStarts(_ scope: Scope, of body: () -> Void) {
        guard #available(macOS 26, iOS 26, tvOS 26, watchOS 26, visionOS 26, *), let key = key.value,
            withUnsafeCurrentTask(body: { $0?.unownedTaskExecutor }) == nil
        else { return body() }
        let outer = pthread_getspecific(key)
        var frame = Frame(scope: scope)
        withUnsafeMutablePointer(to: &frame) { frame in
            pthread_setspecific(key, UnsafeRawPointer(frame))
            body()
            while let child = frame.pointee.next.take() {
                frame.pointee.running = child
                child.launchHere()
                frame.pointee.running = nil
            }
            pthread_setspecific(key, outer)
        }
    }

    /// Names the request to `supervisor` of the thread's caller: the first one that the thread makes.
    static func requests(_ number: UInt64, of supervisor: SupervisorProcess) {
        guard let frame, case .request(let owner) = frame.pointee.scope, owner === supervisor,
            frame.pointee.request == nil
        else { return }
        frame.pointee.request = number
    }

    /// Leaves the start to this thread. Returns false if the thread does not take it.
    static func take(_ child: ChildProcess) -> Bool {
        guard let frame, frame.pointee.takes(child) else { return false }
        frame.pointee.next = child
        return true
    }

    /// Called when a start closure has returned. Returns whether it was not suspended on this thread, which then takes the next start.
    static func closureReturned(_ child: ChildProcess) -> Bool {
        guard let frame, frame.pointee.running === child else { return false }
        frame.pointee.running = nil
        return true
    }
}

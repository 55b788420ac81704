import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The identity of an OS thread.
struct ThreadIdentity: Sendable, Equatable {
    private let address: UInt

    /// The calling thread.
    static var current: ThreadIdentity {
        #if canImport(Darwin)
        ThreadIdentity(address: UInt(bitPattern: pthread_self()))
        #else
        ThreadIdentity(address: UInt(pthread_self()))
        #endif
    }
}

/// The key of a pointer that each OS thread has for itself.
struct ThreadKey: Sendable {
    /// `nil` if the OS process has no key left.
    let value: pthread_key_t?

    init() {
        var key = pthread_key_t()
        value = pthread_key_create(&key, nil) == 0 ? key : nil
    }
}

/// Something with a mailbox that can be drained on any thread.
protocol Drainable: AnyObject, Sendable {
    /// Handles everything in the mailbox.
    func drain()
}

/// Runs supervisors on the thread that delivers their events, one after the other instead of nested.
///
/// A supervisor decides in microseconds and never blocks, so the thread that delivers an exit can also run the decision, without an
/// executor hop or the cooperative pool. Events that one supervisor sends to another in the meantime are queued here, so that the shutdown
/// of a deep tree is a loop instead of a recursion.
enum Trampoline {
    private struct Queue {
        var waiting: [any Drainable] = []
        var next = 0

        mutating func takeNext() -> (any Drainable)? {
            guard next < waiting.count else { return nil }
            defer {
                next += 1
                if next == waiting.count {
                    waiting.removeAll(keepingCapacity: true)
                    next = 0
                }
            }
            return waiting[next]
        }
    }

    private static let key = ThreadKey()

    static func run(_ target: any Drainable) {
        guard let key = key.value else {
            // No thread-local storage is left in this OS process: deep trees then recurse, everything else is the same.
            target.drain()
            return
        }
        if let current = pthread_getspecific(key) {
            // The frame below on this thread stored the pointer; it is still running and owns the queue.
            current.assumingMemoryBound(to: Queue.self).pointee.waiting.append(target)
            return
        }
        var queue = Queue()
        withUnsafeMutablePointer(to: &queue) { queue in
            pthread_setspecific(key, UnsafeRawPointer(queue))
            target.drain()
            while let next = queue.pointee.takeNext() { next.drain() }
            pthread_setspecific(key, nil)
        }
    }
}

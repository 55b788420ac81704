import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Which thread of the OS process code runs on.
struct ThreadIdentity: Sendable, Equatable {
    private let address: UInt

    /// The one that asks.
    static var current: ThreadIdentity {
        #if canImport(Darwin)
        ThreadIdentity(address: UInt(bitPattern: pthread_self()))
        #else
        ThreadIdentity(address: UInt(pthread_self()))
        #endif
    }
}

/// Something with a mailbox that can be emptied on any thread.
protocol Drainable: AnyObject, Sendable {
    /// Handles everything in the mailbox.
    func drain()
}

/// Runs supervisors on the thread that has news for them, one after the other instead of inside each other.
///
/// A supervisor decides in microseconds and never blocks, so the thread that brings an exit can as well do the deciding:
/// no hop, and no need of the cooperative pool. What one supervisor tells another meanwhile is queued here, so that the
/// teardown of a deep tree is a loop and not a recursion.
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

    private struct Key: Sendable {
        let value: pthread_key_t?
    }

    private static let key: Key = {
        var key = pthread_key_t()
        return Key(value: pthread_key_create(&key, nil) == 0 ? key : nil)
    }()

    static func run(_ target: any Drainable) {
        guard let key = key.value else {
            // No thread-local storage left in this OS process: deep trees then recurse, all else is the same.
            target.drain()
            return
        }
        if let current = pthread_getspecific(key) {
            // The pointer was put there by the frame below, on this thread, which is still running and holds the queue.
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

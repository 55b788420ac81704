import Dispatch

/// Runs something asynchronous while the main thread waits for it.
///
/// An asynchronous `main` ends the main thread, and valgrind does not survive that.
public func runBlocking(_ body: @escaping @Sendable () async -> Void) {
    let over = DispatchSemaphore(value: 0)
    Task.detached {
        await body()
        over.signal()
    }
    over.wait()
}

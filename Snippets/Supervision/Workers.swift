//! Workers: a loop, a graceful stop, and a kill hook.

import Foundation
import Supervision

// snippet.store
actor Store {
    private var entries: [String: Date] = [:]

    func put(_ key: String, expires: Date) { entries[key] = expires }

    func removeExpired() { entries = entries.filter { $0.value > Date() } }
}
// snippet.end

// snippet.worker
actor Cleaner: Worker {
    private let store: ChildReference<Store>

    init(_ store: ChildReference<Store>) { self.store = store }

    func run() async throws {
        while true {
            try await Task.sleep(for: .seconds(60))
            try await store.call { $0.removeExpired() }
        }
    }
}
// snippet.end

// snippet.siblings
let supervisor = Supervisor("app") {
    Child("store") { _ in Store() }
    Child("cleaner") { context in Cleaner(context.reference("store")) }
}
// snippet.end

// snippet.polite
actor Flusher: Worker {
    private let stop: StopRequest
    private var lines: [String] = []

    init(_ context: ChildContext) { stop = context.stopRequest }

    func add(_ line: String) { lines.append(line) }

    func run() async throws {
        await stop.wait()
        try await write(lines)
    }

    func terminate(reason: ExitReason) async {
        print("flusher ended:", reason)
    }

    private func write(_ lines: [String]) async throws { print(lines.joined(separator: "\n")) }
}
// snippet.end

// snippet.hook
/// Not an actor: the kill hook must be able to use it while the actor is stuck.
final class Socket: Sendable {
    func read() async throws -> [UInt8] { [] }
    func close() {}
}

actor Reader: Worker {
    nonisolated let socket: Socket

    init(_ socket: Socket) { self.socket = socket }

    func run() async throws {
        while true { _ = try await socket.read() }
    }
}

let reader = Child(
    "reader",
    options: ChildOptions(shutdown: .timeout(.seconds(2)), killTimeout: .milliseconds(500)),
    onKill: { (reader: Reader) in reader.socket.close() }
) { _ in Reader(Socket()) }
// snippet.end

// snippet.switch
actor Consumer: Worker {
    private let context: ChildContext

    init(_ context: ChildContext) { self.context = context }

    func run() async throws {
        while true {
            try await handleNext()
            context.heartbeat()
        }
    }

    private func handleNext() async throws { try await Task.sleep(for: .seconds(1)) }
}

let consumer = Child("consumer", options: ChildOptions(heartbeatTimeout: .seconds(30))) { context in Consumer(context) }
// snippet.end

#if os(Linux)
import Foundation
import Synchronization
import Testing

/// The built `rpc` executable, run as a user would run it.
final class RunningTool: Sendable {
    /// How it ended, and all it printed.
    struct Ending: Sendable, CustomStringConvertible {
        var code: Int32
        var output: String
        var error: String

        var description: String { "exit code \(code)\nstdout: \(output)\nstderr: \(error)" }
    }

    private struct State {
        var output = Data()
        var error = Data()
        var code: Int32?
        var openStreams = 2
        var waiters: [UInt64: (isDue: @Sendable (borrowing State) -> Bool, CheckedContinuation<Bool, Never>)] = [:]
        var lastWaiter: UInt64 = 0

        var isOver: Bool { code != nil && openStreams == 0 }
    }

    private let process = Mutex<Process?>(nil)
    private let state = Mutex(State())

    /// Starts it. Of our environment it gets none that it reads itself.
    init(_ arguments: [String], environment: [String: String] = [:]) throws {
        let test = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: test).deletingLastPathComponent().appendingPathComponent("rpc")
        process.arguments = arguments
        var variables = ProcessInfo.processInfo.environment
        variables["AMQP_URL"] = nil
        process.environment = variables.merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        let output = Pipe()
        let error = Pipe()
        process.standardOutput = output
        process.standardError = error
        process.terminationHandler = { [self] process in
            change {
                $0.code = process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
            }
        }
        try process.run()
        self.process.withLock { $0 = process }
        read(output.fileHandleForReading) { $0.output.append($1) }
        read(error.fileHandleForReading) { $0.error.append($1) }
    }

    /// Sends it a signal, as a terminal or a service manager does.
    func signal(_ signal: Int32) {
        process.withLock { process in
            if let process, process.isRunning { kill(process.processIdentifier, signal) }
        }
    }

    /// What standard error has so far.
    var saidOnError: String { state.withLock { String(decoding: $0.error, as: UTF8.self) } }

    /// Waits until standard error has this text, so often.
    func says(_ text: String, times: Int = 1, sourceLocation: SourceLocation = #_sourceLocation) async {
        await wait(until: text, times, in: \.error, sourceLocation)
    }

    /// Waits until standard output has this text.
    func prints(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) async {
        await wait(until: text, 1, in: \.output, sourceLocation)
    }

    private func wait(
        until text: String,
        _ times: Int,
        in stream: any KeyPath<State, Data> & Sendable,
        _ sourceLocation: SourceLocation
    ) async {
        let has = { @Sendable (data: Data) in
            String(decoding: data, as: UTF8.self).components(separatedBy: text).count > times
        }
        let isThere = await wait(within: .seconds(90)) { has($0[keyPath: stream]) || $0.isOver }
        let said = state.withLock { $0[keyPath: stream] }
        if !isThere || !has(said) {
            let said = String(decoding: said, as: UTF8.self)
            Issue.record("it does not say \"\(text)\" \(times) times, but: \(said)", sourceLocation: sourceLocation)
        }
    }

    /// Waits for its end; one that does not come is an issue, and forced.
    func ending(
        within deadline: Duration = .seconds(90),
        sourceLocation: SourceLocation = #_sourceLocation
    ) async -> Ending {
        if await !wait(within: deadline, for: { $0.isOver }) {
            Issue.record("it does not end", sourceLocation: sourceLocation)
            signal(SIGKILL)
            _ = await wait(within: deadline) { $0.isOver }
        }
        return state.withLock { state in
            Ending(
                code: state.code ?? .min,
                output: String(decoding: state.output, as: UTF8.self),
                error: String(decoding: state.error, as: UTF8.self)
            )
        }
    }

    // MARK: Events

    private func read(_ handle: FileHandle, _ append: @escaping @Sendable (inout State, Data) -> Void) {
        let descriptor = handle.fileDescriptor
        Thread.detachNewThread { [self] in
            var buffer = [UInt8](repeating: 0, count: 4096)
            while true {
                let count = Glibc.read(descriptor, &buffer, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { break }
                let data = Data(buffer[..<count])
                change { append(&$0, data) }
            }
            change { $0.openStreams -= 1 }
            // Closes the descriptor, and so must outlive the reading.
            withExtendedLifetime(handle) {}
        }
    }

    private func change(_ body: (inout State) -> Void) {
        let due = state.withLock { state in
            body(&state)
            let due = state.waiters.filter { $0.value.isDue(state) }
            for id in due.keys { state.waiters[id] = nil }
            return due.values.map { $0.1 }
        }
        for continuation in due { continuation.resume(returning: true) }
    }

    private func wait(within deadline: Duration, for isDue: @escaping @Sendable (borrowing State) -> Bool) async -> Bool
    {
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        let timer = Task {
            try await Task.sleep(for: deadline)
            state.withLock { $0.waiters.removeValue(forKey: id)?.1 }?.resume(returning: false)
        }
        defer { timer.cancel() }
        return await withCheckedContinuation { continuation in
            let isDueNow = state.withLock { state in
                if isDue(state) { return true }
                state.waiters[id] = (isDue, continuation)
                return false
            }
            if isDueNow { continuation.resume(returning: true) }
        }
    }
}

/// Runs the tool to its end.
func rpc(
    _ arguments: String...,
    environment: [String: String] = [:],
    sourceLocation: SourceLocation = #_sourceLocation
) async throws -> RunningTool.Ending {
    try await RunningTool(arguments, environment: environment).ending(sourceLocation: sourceLocation)
}

/// Runs `body` while `rpc serve math` serves, which is ended afterwards.
func whileServing(
    url: String,
    _ arguments: [String] = [],
    _ body: (RunningTool) async throws -> Void
) async throws {
    let server = try RunningTool(["serve", "math", "--url", url] + arguments)
    defer { server.signal(SIGKILL) }
    await server.says("serving \"math\"")
    try await body(server)
}
#endif

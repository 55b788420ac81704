import AMQPTesting
import ChaosSupport
import Foundation
import RPCCaller
import RPCReceiver
import Supervision
import Synchronization

/// Many calls through one caller and two receivers, with something that happens to one of them each second.
///
/// Held at the end: every call ended once; each result was the right one; what failed as "not processed" never ran; no table, queue, consumer,
/// connection or descriptor is left; and memory did not grow.
struct Soak {
    let calls: Int
    let clients: Int
    let seed: UInt64
    /// It ends then, too, with as many as there were.
    let limit: Duration
    /// How long a call may take, as the caller sees it.
    private static let timeout = Duration.seconds(30)
    /// What may come on top of it on a machine that is busy, before a call counts as one that does not end.
    private static let grace = Duration.seconds(60)
    /// How much more memory the last quarter may have than the second.
    private static let growth = 64 << 20

    /// What one call came to.
    private final class Marks: Sendable {
        private let bits: Mutex<[UInt64]>

        init(_ count: Int) { bits = Mutex([UInt64](repeating: 0, count: count / 64 + 1)) }

        /// Whether it was not set.
        @discardableResult
        func set(_ index: Int) -> Bool {
            bits.withLock { bits in
                guard bits.indices.contains(index / 64) else { return true }
                let bit: UInt64 = 1 << UInt64(index % 64)
                defer { bits[index / 64] |= bit }
                return bits[index / 64] & bit == 0
            }
        }

        func isSet(_ index: Int) -> Bool {
            bits.withLock { $0.indices.contains(index / 64) && $0[index / 64] & (1 << UInt64(index % 64)) != 0 }
        }

        var count: Int { bits.withLock { $0.reduce(0) { $0 + $1.nonzeroBitCount } } }
    }

    private struct State {
        var next = 0
        var outcomes: [String: Int] = [:]
        /// Those that failed, and were said not to have been processed.
        var unprocessed: [Int] = []
        var wrong: [String] = []
        /// When what a client asks now was begun.
        var begun: [Int: ContinuousClock.Instant] = [:]
        var slowest = Duration.zero
    }

    struct Sample {
        var seconds: Double
        var calls: Int
        var memory: Int
        var descriptors: Int
    }

    private struct Part {
        let tree: LiveTree
        let root: Supervisor
        let proxy: FaultProxy
    }

    func run() async throws -> Result {
        let broker = try await LocalBroker.start(.init(startTimeout: .seconds(180), requestTimeout: .seconds(60)))
        let (ran, ended) = (Marks(calls), Marks(calls))
        let reruns = Atomic(0)
        let procedure = RPCHandler("next") { (number: Int, _) in
            if !ran.set(number) { reruns.add(1, ordering: .relaxed) }
            return number + 1
        }
        var proxies: [FaultProxy] = []
        for _ in 0..<3 { proxies.append(try await FaultProxy.start(to: broker)) }
        let caller = try Services.caller(proxies[0].url, intensity: Services.patience)
        var parts = [part("caller", caller.supervisor, proxies[0])]
        var receivers: [RPCReceiver] = []
        for (proxy, name) in zip(proxies.dropFirst(), ["one", "two"]) {
            let receiver = try Services.receiver(proxy.url, intensity: Services.patience) { procedure }
            receivers.append(receiver)
            parts.append(part(name, receiver.supervisor, proxy))
        }
        let before = Sample(seconds: 0, calls: 0, memory: Self.memory, descriptors: Self.descriptors)
        for part in parts { try await part.root.start() }
        for receiver in receivers { try await receiver.waitUntilReady(timeout: .seconds(120)) }

        let state = Shared(State())
        let begun = ContinuousClock.now
        let faulting = Task { [parts] in await fault(parts, broker) }
        let watching = Task { await watch(state, since: begun) }
        await withTaskGroup(of: Void.self) { group in
            for client in 0..<clients {
                group.addTask {
                    while let number = next(state, client, since: begun) {
                        await call(caller, number, client, state, ended)
                    }
                }
            }
        }
        let duration = begun.duration(to: .now)
        faulting.cancel()
        watching.cancel()
        let counts = await faulting.value
        let (samples, hanging) = await watching.value

        var findings = state.with { $0.wrong } + hanging
        let asked = state.with { $0.next }
        if ended.count != asked { findings.append("\(ended.count) of \(asked) calls ended") }
        let untrue = state.with { $0.unprocessed }.filter { ran.isSet($0) }
        if !untrue.isEmpty { findings.append("\(untrue.count) calls ran that were said not to have been processed") }
        // What is still in the queue may run.
        let view = BrokerView(broker, "/")
        do {
            try await view.becomes(
                [
                    "math.rpcs: 4 consumers, 0 messages", "reply queue: 2 consumers, 0 messages",
                    "6 connections, 6 channels",
                ],
                replyQueue: { caller.replyQueueName },
                within: .seconds(120)
            )
        } catch {
            findings.append("\(error)")
        }
        if caller.pendingCount != 0 { findings.append("\(caller.pendingCount) calls are left in the caller's table") }
        for receiver in receivers where receiver.inFlight != 0 {
            findings.append("\(receiver.inFlight) requests are left in a receiver's table")
        }
        for part in parts { _ = await part.root.stop() }
        do {
            try await view.becomes(["math.rpcs: 0 consumers, 0 messages", "0 connections, 0 channels"])
        } catch {
            findings.append("\(error)")
        }
        for proxy in proxies { await proxy.shutdown() }
        await broker.shutdown()
        let after = Self.descriptors
        if after > before.descriptors { findings.append("\(after - before.descriptors) descriptors are left") }
        findings += grown(samples)
        return state.with { state in
            Result(
                calls: asked,
                duration: duration,
                outcomes: state.outcomes,
                reruns: reruns.load(ordering: .relaxed),
                faults: counts,
                slowest: state.slowest,
                samples: samples,
                findings: findings
            )
        }
    }

    private func part(_ name: String, _ child: Supervisor, _ proxy: FaultProxy) -> Part {
        let root = Supervisor(name, intensity: Services.patience, logger: Services.quiet) { child }
        return Part(tree: LiveTree(root), root: root, proxy: proxy)
    }

    // MARK: Calls

    private func next(_ state: Shared<State>, _ client: Int, since begun: ContinuousClock.Instant) -> Int? {
        let now = ContinuousClock.now
        return state.with { state -> Int? in
            guard state.next < calls, begun.duration(to: now) < limit else { return nil }
            defer { state.next += 1 }
            state.begun[client] = now
            return state.next
        }
    }

    private func call(
        _ caller: RPCCaller,
        _ number: Int,
        _ client: Int,
        _ state: Shared<State>,
        _ ended: Marks
    ) async {
        var outcome = "answered"
        var wrong: String?
        var isUnprocessed = false
        do throws(RPCError) {
            let result = try await caller.call("math", "next", number, timeout: Self.timeout, as: Int.self)
            if result != number + 1 { wrong = "the answer to \(number) was \(result)" }
        } catch {
            isUnprocessed = !error.requestMayHaveBeenProcessed
            outcome = error.name + (isUnprocessed ? ", not processed" : ", perhaps processed")
        }
        if !ended.set(number) { wrong = "call \(number) ended twice" }
        let now = ContinuousClock.now
        state.with { [outcome, wrong, isUnprocessed] state in
            state.outcomes[outcome, default: 0] += 1
            if isUnprocessed { state.unprocessed.append(number) }
            if let wrong, state.wrong.count < 20 { state.wrong.append(wrong) }
            if let begun = state.begun.removeValue(forKey: client) {
                state.slowest = max(state.slowest, begun.duration(to: now))
            }
        }
    }

    // MARK: Faults

    /// One thing a second, until the task is cancelled. Returns what and how often.
    private func fault(_ parts: [Part], _ broker: LocalBroker) async -> [String: Int] {
        var random = Words(state: seed)
        var counts: [String: Int] = [:]
        let administration = Chaos.Fault.administration(broker).filter { $0.name != "queue-deleted" }
        let network = parts.map { Chaos.Fault.network($0.proxy, for: .milliseconds(500)) }
        while !Task.isCancelled {
            let next = ContinuousClock.now + .seconds(1)
            let index = Int.random(in: 0..<parts.count, using: &random)
            let tree = parts[index].tree
            switch Int.random(in: 0..<6, using: &random) {
            case 0...2:
                // The root stays: it is this program's.
                guard let victim = tree.processes.dropFirst().randomElement(using: &random) else { continue }
                let isKilled = Bool.random(using: &random)
                guard (try? tree.end(victim.path, by: isKilled ? .kill : .crash())) != nil else { continue }
                counts[isKilled ? "process killed" : "process crashed", default: 0] += 1
            case 3...4:
                guard let fault = network[index].randomElement(using: &random) else { continue }
                try? await fault.inflict(tree)
                counts[fault.name, default: 0] += 1
            default:
                guard let fault = administration.randomElement(using: &random) else { continue }
                try? await fault.inflict(tree)
                counts[fault.name, default: 0] += 1
            }
            try? await Task.sleep(until: next)
        }
        return counts
    }

    // MARK: Looking

    private func watch(
        _ state: Shared<State>,
        since begun: ContinuousClock.Instant
    ) async -> (samples: [Sample], hanging: [String]) {
        var samples: [Sample] = []
        var hanging: Set<String> = []
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(5))
            let now = ContinuousClock.now
            let (asked, oldest) = state.with { ($0.next, $0.begun.min { $0.value < $1.value }) }
            let sample = Sample(
                seconds: begun.duration(to: now) / .seconds(1),
                calls: asked,
                memory: Self.memory,
                descriptors: Self.descriptors
            )
            samples.append(sample)
            if let oldest, oldest.value.duration(to: now) > Self.timeout + Self.grace {
                hanging.insert("the call of client \(oldest.key) does not end")
            }
            if samples.count.isMultiple(of: 12) {
                say("  \(asked) calls, \(sample.memory >> 20) MiB, \(sample.descriptors) descriptors")
            }
        }
        return (samples, hanging.sorted())
    }

    private func grown(_ samples: [Sample]) -> [String] {
        let quarter = samples.count / 4
        guard quarter > 0 else { return [] }
        let early = samples[quarter..<(2 * quarter)].map(\.memory).max() ?? 0
        let late = samples.suffix(quarter).map(\.memory).max() ?? 0
        return late > early + Self.growth ? ["memory grew from \(early >> 20) to \(late >> 20) MiB"] : []
    }

    private static var memory: Int {
        let words = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ")
        return (words?.dropFirst().first.flatMap { Int($0) } ?? 0) * 4096
    }

    private static var descriptors: Int {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count) ?? 0
    }

    private struct Words: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
    }
}

extension Soak {
    /// What came of it.
    struct Result {
        let calls: Int
        let duration: Duration
        let outcomes: [String: Int]
        let reruns: Int
        let faults: [String: Int]
        let slowest: Duration
        let samples: [Sample]
        let findings: [String]

        /// A part of docs/storms.md. `plot`: the file with the curve of the memory.
        func markdown(plot: String) -> String {
            let seconds = duration / .seconds(1)
            let memories = samples.map(\.memory)
            var lines = [
                "\(calls) calls in \(Int(seconds)) s, \(Int(Double(calls) / max(seconds, 1))) a second, and "
                    + "\(faults.values.reduce(0, +)) faults; \(reruns) requests ran again. The slowest call took "
                    + "\(String(format: "%.1f", slowest / .seconds(1))) s. "
                    + "Memory: \((memories.min() ?? 0) >> 20) to \((memories.max() ?? 0) >> 20) MiB.",
                "",
                findings.isEmpty
                    ? "Nothing was found: every call ended once and as it should, memory did not grow, and nothing was left over."
                    : "Found:\n\n" + findings.map { "- \($0)" }.joined(separator: "\n"),
                "", "![Memory of the process, and calls, over time](\(plot))",
            ]
            for (title, counts) in [("ended", outcomes), ("fault", faults)] {
                lines += ["", "| \(title) | how many |", "|---|---|"]
                lines += counts.sorted { $0.key < $1.key }.map { "| \($0.key) | \($0.value) |" }
            }
            return lines.joined(separator: "\n") + "\n"
        }

        /// The memory over time, as SVG.
        var plot: String {
            let (width, height, left, bottom) = (640.0, 300.0, 60.0, 40.0)
            let last = max(samples.last?.seconds ?? 1, 1)
            let most = Double(max(samples.map(\.memory).max() ?? 1, 1 << 20)) * 1.2
            func place(_ sample: Sample) -> String {
                let x = left + sample.seconds / last * (width - left - 20)
                let y = height - bottom - Double(sample.memory) / most * (height - bottom - 30)
                return String(format: "%.1f,%.1f", x, y)
            }
            let ticks = (0...4).map { step -> String in
                let memory = most / 4 * Double(step)
                let y = height - bottom - Double(step) / 4 * (height - bottom - 30)
                let x = left + Double(step) / 4 * (width - left - 20)
                let time = Int(last / 60 * Double(step) / 4)
                return """
                    <line x1="\(left)" x2="\(width - 20)" y1="\(y)" y2="\(y)" stroke="#ddd"/>
                    <text x="\(left - 6)" y="\(y + 4)" text-anchor="end">\(Int(memory) >> 20)</text>
                    <text x="\(x)" y="\(height - bottom + 18)" text-anchor="middle">\(time)</text>
                    """
            }
            return """
                <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(width) \(height)" font-family="sans-serif" font-size="12">
                <rect width="100%" height="100%" fill="white"/>
                <text x="\(left)" y="18">Resident memory in MiB over minutes; \(calls) calls</text>
                \(ticks.joined(separator: "\n"))
                <polyline points="\(samples.map(place).joined(separator: " "))" fill="none" stroke="#1f6fb4" stroke-width="1.5"/>
                </svg>

                """
        }
    }
}

import AMQPTesting
import ArgumentParser
import ChaosSupport
import Foundation

/// The long storm: see `scripts/storm --help`.
@main
struct Storm: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "storm",
        abstract: "Kills processes at random, and breaks network and broker around them, while calls run."
    )

    @Option(help: "For how long: 10 by default. With --calls, at the most.")
    var minutes: Double?

    @Option(help: "Play the soak with so many calls instead.")
    var calls: Int?

    @Option(help: "Of the first round; the next ones count on from it. Random by default.")
    var seed = UInt64.random(in: 0...999_999)

    @Option(help: "How many kills and faults make a round.")
    var kills = 100

    @Option(help: "How many calls are under way at any time.")
    var clients = 200

    @Flag(help: "Play with a tree of workers instead.")
    var workers = false

    @Option(help: "Play only this scenario, as a failure names it.")
    var replay: String?

    @Option(help: "Write the result to this file, in Markdown.")
    var report: String?

    func validate() throws {
        guard minutes ?? 1 > 0, calls ?? 1 > 0, kills > 0, clients > 0 else {
            throw ValidationError("The numbers have to be positive.")
        }
        if let replay, Chaos.Scenario(replay) == nil { throw ValidationError("Not a scenario: \(replay)") }
    }

    func run() async throws {
        if let calls { return try await soak(calls) }
        let broker = try await LocalBroker.start(.init(startTimeout: .seconds(180), requestTimeout: .seconds(60)))
        let shop: any StormTree =
            workers ? try await StormDepot(broker) : StormShop(try await .open(broker, clients: clients))
        var result = StormResult(seed: seed)
        let failure: String?
        if let replay, let scenario = Chaos.Scenario(replay) {
            failure = await play(shop, &result) { try await $0.replay(scenario, expecting: .survives) }
        } else {
            failure = await rounds(shop, &result)
        }
        result.outcomes = shop.outcomes
        result.reruns = shop.reruns
        result.isOfWorkers = workers
        await shop.close()
        await broker.shutdown()
        print(result.text)
        if let report { try result.markdown(failure).write(toFile: report, atomically: true, encoding: .utf8) }
        guard let failure else { return print("Nothing was found.") }
        print(failure)
        throw ExitCode.failure
    }

    private func soak(_ calls: Int) async throws {
        let limit: Duration = minutes.map { .seconds($0 * 60) } ?? .seconds(86_400)
        let result = try await Soak(calls: calls, clients: clients, seed: seed, limit: limit).run()
        let plot = report.map { URL(fileURLWithPath: $0).deletingPathExtension().appendingPathExtension("svg") }
        let text = result.markdown(plot: plot?.lastPathComponent ?? "")
        print(text)
        if let report, let plot {
            try text.write(toFile: report, atomically: true, encoding: .utf8)
            try result.plot.write(to: plot, atomically: true, encoding: .utf8)
        }
        guard result.findings.isEmpty else { throw ExitCode.failure }
    }

    private func rounds(_ shop: any StormTree, _ result: inout StormResult) async -> String? {
        let end = ContinuousClock.now + .seconds((minutes ?? 10) * 60)
        var next = seed
        while ContinuousClock.now < end {
            let round = next
            say("seed \(round): \(kills) kills and faults, \(StormRound.pace(round))")
            let found = await play(shop, &result) { chaos in
                try await StormRound.play(
                    chaos,
                    seed: round,
                    kills: kills,
                    lasting: ContinuousClock.now.duration(to: end)
                )
            }
            if let found {
                return
                    "In the round with the seed \(round): scripts/storm \(workers ? "--workers " : "")--seed \(round)\n\(found)"
            }
            next &+= 1
        }
        return nil
    }

    /// What was found, with how to play it again.
    private func play(
        _ shop: any StormTree,
        _ result: inout StormResult,
        _ body: (Chaos) async throws -> Chaos.Report
    ) async -> String? {
        var chaos = shop.chaos(leaks: Chaos.LeakCheck(descriptors: 16, memory: 512 << 20))
        let progress = Progress(shop)
        chaos.onStep = { progress.step($0) }
        do {
            result.add(try await body(chaos))
            try await shop.leavesNothing()
            return nil
        } catch let failure as Chaos.Failure {
            result.add(failure.report)
            let scenarios = failure.report.failures.map {
                "scripts/storm \(workers ? "--workers " : "")--replay '\($0.scenario)'"
            }
            return ([failure.description, "To play it again:"] + scenarios).joined(separator: "\n")
        } catch {
            return "After the tree had been stopped: \(error)"
        }
    }
}

/// A line every few seconds.
private final class Progress: Sendable {
    private let tree: any StormTree
    private let started = ContinuousClock.now
    private let state = Shared((steps: 0, kills: 0, told: ContinuousClock.now, last: ContinuousClock.now))

    init(_ tree: any StormTree) { self.tree = tree }

    func step(_ row: Chaos.Report.Row) {
        if !row.findings.isEmpty {
            say(
                "found: \(row.findings.map(\.description).joined(separator: "; ")); looking for the smallest part that shows it"
            )
        }
        let now = ContinuousClock.now
        let took = state.with { state in
            defer { state.last = now }
            return state.last.duration(to: now)
        }
        if took > .seconds(15) {
            let kills = row.kills.map(\.description).joined(separator: " & ")
            say("  took \(took / .seconds(1)) s, \(row.settledAfter / .seconds(1)) to settle: \(kills)")
        }
        let (steps, kills, tells) = state.with { state in
            state.steps += 1
            state.kills += row.kills.count
            let tells = state.told.duration(to: now) > .seconds(10)
            if tells { state.told = now }
            return (state.steps, state.kills, tells)
        }
        guard tells else { return }
        let all = tree.outcomes.values.reduce(0, +)
        say("  \(kills) in \(steps) steps; \(all) calls and messages, \(tree.reruns) ran again")
    }
}

/// At once, also into a pipe.
func say(_ text: String) {
    let time = Date.now.formatted(.iso8601.time(includingFractionalSeconds: false))
    FileHandle.standardOutput.write(Data("\(time) \(text)\n".utf8))
}

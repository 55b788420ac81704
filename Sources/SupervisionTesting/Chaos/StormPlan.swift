import Supervision

/// The kills of a storm, drawn from a seed before it begins.
struct StormPlan: Sendable {
    private var random: SplitMix64
    private(set) var steps: [[Scenario.Kill]] = []

    init(seed: UInt64) {
        random = SplitMix64(seed: seed)
    }

    mutating func add(
        _ count: Int,
        _ processes: [LiveTree.Process],
        _ weights: [Way: Double],
        _ pace: Chaos.Pace,
        rest: Duration,
        _ canEnd: (LiveTree.Process, Way) -> Bool
    ) {
        // Sorted: the order of a dictionary is another in every run.
        let ways = weights.filter { $0.value > 0 }.sorted { $0.key.description < $1.key.description }
        guard !processes.isEmpty, !ways.isEmpty else { return }
        var drawn = 0
        var tries = 0
        while drawn < count, tries < count * 100 {
            tries += 1
            let process = processes[Int(random.next() % UInt64(processes.count))]
            let way = draw(ways)
            guard canEnd(process, way) else { continue }
            var kill = Scenario.Kill(process.path, way)
            switch pace {
            case .rested:
                if drawn > 0 { kill.pause = rest }
                steps.append([kill])
            case .settled: steps.append([kill])
            case .pausing(let pause):
                if drawn > 0 { kill.pause = pause }
                steps.append([kill])
            case .every(let interval):
                if drawn > 0 { kill.pause = interval }
                steps = [(steps.first ?? []) + [kill]]
            case .atOnce(let many):
                if let last = steps.last, last.count < many {
                    steps[steps.count - 1] = last + [kill]
                } else {
                    steps.append([kill])
                }
            }
            drawn += 1
        }
    }

    private mutating func draw(_ ways: [(key: Way, value: Double)]) -> Way {
        var left = random.unit() * ways.reduce(0) { $0 + $1.value }
        for (way, weight) in ways {
            left -= weight
            if left < 0 { return way }
        }
        return ways.last?.key ?? .kill
    }
}

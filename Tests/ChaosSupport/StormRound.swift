import SupervisionTesting

/// One tree and a hundred things that happen to it: which and how is told by the seed alone.
package enum StormRound {
    package static let weights: [Chaos.Way: Double] = [
        .kill: 4, .crash: 4, .normalEnd: 1, .gracefulStop: 1, .failingRestart(.times(1)): 1,
        .failingRestart(.times(2)): 0.5,
        .hang: 0.3,
    ]

    /// How they follow each other.
    package static func pace(_ seed: UInt64) -> Chaos.Pace {
        switch seed % 4 {
        case 0: .settled
        case 1: .atOnce(2)
        case 2: .atOnce(5)
        default: .every(.milliseconds(200))
        }
    }

    /// - Parameters:
    ///   - kills: How many things happen.
    ///   - lasting: After which no further step begins.
    package static func play(
        _ chaos: Chaos,
        seed: UInt64,
        kills: Int,
        lasting: Duration? = nil
    ) async throws -> Chaos.Report {
        try await chaos.storm(
            seed: seed,
            kills: kills,
            lasting: lasting,
            pace: pace(seed),
            weights: weights,
            faults: 0.35,
            expecting: .survives
        )
    }
}

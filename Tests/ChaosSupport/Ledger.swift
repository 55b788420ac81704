import RPCCaller
import SupervisionTesting

/// What was asked and what came of it, by numbers that never come twice: a pure value.
///
/// It knows what must hold whatever happens:
///
/// - each call ends once, and a result is the right one;
/// - a call that ends with "was not processed" has never run;
/// - a call that ends with a result, a cast and a message that were confirmed have run;
/// - what is delivered again says so: of all runs of one request only one is not told to be a further delivery. (It need not be
///   the one that begins first.) Excepted are those from a queue in which the broker has lost count.
package struct Ledger: Sendable {
    package enum Ending: Sendable {
        /// With what was expected: a result, or the failure that the procedure throws.
        case right
        /// With a result that is not the right one.
        case wrong(String)
        /// With an error, which says whether it may have been processed.
        case failed(String, mayHaveRun: Bool)
    }

    private var last = 0
    private var underWay: Set<Int> = []
    private var ended: [(number: Int, kind: String, ending: Ending, runs: Bool)] = []
    /// For each run the queue that it came from, and whether it was told to be a further delivery.
    private var runs: [Int: [(queue: String, isMarked: Bool)]] = [:]
    private var twice: [Int] = []
    /// How many ended in each way, of all times.
    package private(set) var totals: [String: Int] = [:]
    /// How many ran again, of all times.
    package private(set) var reruns = 0
    /// How many have begun, of all times.
    package var begun: Int { last }
    package var inFlight: Int { underWay.count }

    package init() {}

    package mutating func begin() -> Int {
        last += 1
        underWay.insert(last)
        return last
    }

    /// - Parameter runs: Whether its handler runs when all is well.
    package mutating func end(_ number: Int, _ kind: String, _ ending: Ending, runs: Bool) {
        if underWay.remove(number) == nil { twice.append(number) }
        ended.append((number, kind, ending, runs))
        let name =
            switch ending {
            case .right: "right"
            case .wrong: "wrong"
            case .failed(let name, _): name
            }
        totals["\(kind): \(name)", default: 0] += 1
    }

    package mutating func ran(_ number: Int, from queue: String, isMarked: Bool) {
        runs[number, default: []].append((queue, isMarked))
        if isMarked { reruns += 1 }
    }

    /// Judges what has ended since the last time; to be called when nothing is under way.
    ///
    /// - Parameters:
    ///   - permits: Whether an error, by its name, may have happened.
    ///   - losesMessages: Whether the broker may have lost what it had confirmed, and with it what it knew of deliveries.
    ///   - unmarked: The queues in which the broker does not mark what it delivers again.
    package mutating func judge(
        losesMessages: Bool,
        unmarked: Set<String> = [],
        permits: (String) -> Bool
    ) throws(Chaos.Invariant.Violation) {
        defer { (ended, runs, twice) = ([], [:], []) }
        if let number = twice.first { throw Chaos.Invariant.Violation("call \(number) ended twice") }
        if let number = underWay.min() { throw Chaos.Invariant.Violation("call \(number) has not ended") }
        for (number, runs) in runs where !losesMessages {
            guard runs.count(where: { !$0.isMarked && !unmarked.contains($0.queue) }) > 1 else { continue }
            let ending = ended.first { $0.number == number }
            throw Chaos.Invariant.Violation(
                "request \(number) (\(ending.map { "\($0)" } ?? "")) ran twice, told to be: \(runs.map(\.isMarked))"
            )
        }
        for (number, kind, ending, runs) in ended {
            let count = self.runs[number]?.count ?? 0
            switch ending {
            case .wrong(let what): throw Chaos.Invariant.Violation("\(kind) \(number): \(what)")
            case .right:
                if runs, count == 0, !losesMessages || kind == "call" {
                    throw Chaos.Invariant.Violation("\(kind) \(number) succeeded and never ran")
                }
            case .failed(let name, let mayHaveRun):
                if !mayHaveRun, count > 0 {
                    throw Chaos.Invariant.Violation(
                        "\(kind) \(number) ran, and its error says that it did not: \(name)"
                    )
                }
                if !permits(name) { throw Chaos.Invariant.Violation("\(kind) \(number) ended with: \(name)") }
            }
        }
    }
}

extension RPCError {
    /// Which case it is.
    package var name: String {
        switch self {
        case .connectionLost(let mayHaveBeenDelivered): "connectionLost(\(mayHaveBeenDelivered))"
        case .remote(let failure): "remote(\(failure.code))"
        case .replyQueueLost: "replyQueueLost"
        case .rejectedByBroker: "rejectedByBroker"
        // The others have payloads.
        default: Mirror(reflecting: self).children.first?.label ?? "\(self)"
        }
    }
}

import AMQPPool
import DequeModule
import NIOCore
import RPCWire
import Synchronization

/// The deduplication of a receiver: ``AnsweredRequests`` behind a lock, and those that wait for the answer to another request.
///
/// A request that waits gives its place back, and has one again before it goes on: `suspend` and `release` say so to whoever hands out
/// places.
final class RequestRepetitions: Sendable {
    /// Names one run of a request's handler.
    typealias Run = UInt64
    typealias ID = AnsweredRequests<Answer>.ID

    /// What a handler that ran said, for those who ask the same again.
    enum Answer: Sendable {
        case result(RPCReply)
        case failure(RPCFailure)
    }

    /// How a request goes on.
    enum Turn: Sendable {
        case answered(Answer)
        /// Nobody has answered its like.
        case run
        /// It was given up meanwhile.
        case givenUp
    }

    private struct Follower {
        let continuation: CheckedContinuation<Turn, Never>
        /// How it goes on when it has a place again.
        var turn = Turn.run
    }

    private struct State {
        var answers: AnsweredRequests<Answer>
        /// What those are recognised by that are worked on, or follow.
        var ids: [Run: ID] = [:]
        var followers: [Run: Follower] = [:]
        /// Those that are answered with what was said to another.
        var repetitions: Set<Run> = []

        /// Returns the one that is worked on instead.
        mutating func left(_ run: Run) -> Run? {
            guard let id = ids.removeValue(forKey: run) else { return nil }
            return answers.left(id, run)
        }
    }

    private let state: Mutex<State>

    init(_ settings: RPCDeduplication) {
        state = Mutex(State(answers: AnsweredRequests(settings)))
    }

    /// Whether a request is worked on, or has its answer from another of the same id, which it may have to wait for.
    func turn(of run: Run, _ id: ID, on deliveries: DeliveryRunner) async -> Turn {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let turn = state.withLock { state -> Turn? in
                    // A request that is given up is cancelled before this hears of it.
                    if Task.isCancelled { return .givenUp }
                    switch state.answers.arrival(of: id, at: .now) {
                    case .answered(let answer):
                        state.repetitions.insert(run)
                        return .answered(answer)
                    case .run:
                        state.answers.begin(id, run)
                        state.ids[run] = id
                        return .run
                    case .follow:
                        state.answers.begin(id, run)
                        state.ids[run] = id
                        state.followers[run] = Follower(continuation: continuation)
                        return nil
                    }
                }
                if let turn { continuation.resume(returning: turn) } else { deliveries.suspend(run) }
            }
        } onCancel: {
            take(run)?.continuation.resume(returning: .givenUp)
        }
    }

    /// It has a place again.
    func resume(_ run: Run) {
        guard let follower = take(run) else { return }
        follower.continuation.resume(returning: follower.turn)
    }

    private func take(_ run: Run) -> Follower? { state.withLock { $0.followers.removeValue(forKey: run) } }

    /// A request left without an answer: one that followed it is worked on instead. After an answer this does nothing.
    func left(_ run: Run, on deliveries: DeliveryRunner) {
        if let next = state.withLock({ $0.left(run) }) { deliveries.release(next) }
    }

    /// A request was answered: those that followed it are answered with the same, each when it has a place.
    func answered(_ run: Run, _ answer: Answer, on deliveries: DeliveryRunner) {
        let followers = state.withLock { state -> [Run] in
            guard let id = state.ids.removeValue(forKey: run) else { return [] }
            let followers = state.answers.answered(id, run, answer, size: answer.size, at: .now)
            for follower in followers {
                state.ids[follower] = nil
                state.followers[follower]?.turn = .answered(answer)
                state.repetitions.insert(follower)
            }
            return Array(followers)
        }
        for follower in followers { deliveries.release(follower) }
    }

    /// A run has ended. Returns whether it was answered with what was said to another.
    func ended(_ run: Run, on deliveries: DeliveryRunner) -> Bool {
        let (isRepeated, next) = state.withLock { state in
            // An interceptor may end without going on to the handler, or with something else than what the handler said.
            (state.repetitions.remove(run) != nil, state.left(run))
        }
        if let next { deliveries.release(next) }
        return isRepeated
    }
}

extension RequestRepetitions.Answer {
    /// How much memory it keeps, roughly.
    fileprivate var size: Int {
        switch self {
        case .result(let reply): reply.body.readableBytes
        case .failure(let failure): failure.message.utf8.count
        }
    }
}

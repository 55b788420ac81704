import AMQPPool
internal import ConcurrencyPrimitives
import DequeModule
import NIOCore
import RPCWire
import Synchronization

/// The deduplication of a receiver: ``AnsweredRequests`` behind a lock, and the requests that wait for the answer to another one.
///
/// A waiting request releases its slot, and gets one again before it continues: `suspend` and `release` tell the delivery runner.
final class RequestRepetitions: Sendable {
    /// Identifies one run of a request's handler.
    typealias Run = UInt64
    typealias ID = AnsweredRequests<Answer>.ID

    /// The outcome of a handler, for repetitions of its request.
    enum Answer: Sendable {
        case result(RPCReply)
        case failure(RPCFailure)
    }

    /// How a request continues.
    enum Turn: Sendable {
        case answered(Answer)
        /// No request with the same id has been answered.
        case run
        /// It has been given up in the meantime.
        case givenUp
    }

    private struct Follower {
        let isDue = OneShot<Turn>()
        /// How it continues when it has a slot again.
        var turn = Turn.run
    }

    private struct State {
        var answers: AnsweredRequests<Answer>
        /// The ids of requests that are being handled, or wait for another.
        var ids: [Run: ID] = [:]
        var followers: [Run: Follower] = [:]
        /// The requests that are answered with another's outcome.
        var repetitions: Set<Run> = []

        /// Returns the request to handle instead.
        mutating func left(_ run: Run) -> Run? {
            guard let id = ids.removeValue(forKey: run) else { return nil }
            return answers.left(id, run)
        }
    }

    private let state: Mutex<State>

    init(_ settings: RPCDeduplication) {
        state = Mutex(State(answers: AnsweredRequests(settings)))
    }

    /// Returns whether a request is handled, or gets the answer to another one with the same id, which it may have to wait for.
    func turn(of run: Run, _ id: ID, on deliveries: DeliveryRunner) async -> Turn {
        let arrival = state.withLock { state -> Arrival in
            // A request that is given up is cancelled before this hears of it.
            if Task.isCancelled { return .goesOn(.givenUp) }
            switch state.answers.arrival(of: id, at: .now) {
            case .answered(let answer):
                state.repetitions.insert(run)
                return .goesOn(.answered(answer))
            case .run:
                state.answers.begin(id, run)
                state.ids[run] = id
                return .goesOn(.run)
            case .follow:
                let follower = Follower()
                state.answers.begin(id, run)
                state.ids[run] = id
                state.followers[run] = follower
                return .follows(follower.isDue)
            }
        }
        switch arrival {
        case .goesOn(let turn): return turn
        case .follows(let isDue):
            deliveries.suspend(run)
            if let turn = await isDue.wait() { return turn }
            _ = take(run)
            return .givenUp
        }
    }

    private enum Arrival {
        case goesOn(Turn)
        case follows(OneShot<Turn>)
    }

    /// It has a slot again.
    func resume(_ run: Run) {
        guard let follower = take(run) else { return }
        follower.isDue.set(follower.turn)
    }

    private func take(_ run: Run) -> Follower? { state.withLock { $0.followers.removeValue(forKey: run) } }

    /// A request ended without an answer: one that waits for it is handled instead. Does nothing after an answer.
    func left(_ run: Run, on deliveries: DeliveryRunner) {
        if let next = state.withLock({ $0.left(run) }) { deliveries.release(next) }
    }

    /// A request was answered: those that wait for it get the same answer, each when it has a slot.
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

    /// A run has ended. Returns whether it was answered with another's outcome.
    func ended(_ run: Run, on deliveries: DeliveryRunner) -> Bool {
        let (isRepeated, next) = state.withLock { state in
            // An interceptor may end without calling the handler, or with another outcome than the handler's.
            (state.repetitions.remove(run) != nil, state.left(run))
        }
        if let next { deliveries.release(next) }
        return isRepeated
    }
}

extension RequestRepetitions.Answer {
    /// Its approximate memory.
    fileprivate var size: Int {
        switch self {
        case .result(let reply): reply.body.readableBytes
        case .failure(let failure): failure.message.utf8.count
        }
    }
}

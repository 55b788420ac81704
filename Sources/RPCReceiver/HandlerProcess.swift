import Supervision

/// The process under which requests run. When it ends, every handler is cancelled and nothing is answered any more; the pool is restarted
/// after it (rest for one), so that the broker redelivers unanswered requests.
///
/// Requests are its tasks, not processes with their own pids: a request is never restarted here, the broker redelivers it.
actor HandlerProcess {
    nonisolated let incarnation: ReceiverIncarnation

    init(_ incarnation: ReceiverIncarnation, context: ChildContext) {
        self.incarnation = incarnation
        context.pid.onExit { _ in incarnation.runner.close() }
    }
}

import Supervision

/// The process under which requests run. When it ends, every handler is cancelled and nothing is answered any more; the pool
/// is started anew after it (rest for one), so that the broker redelivers what was not answered.
///
/// Requests are its tasks, not processes with pids of their own: a request is never restarted here, the broker delivers it again.
actor HandlerProcess {
    nonisolated let incarnation: ReceiverIncarnation

    init(_ incarnation: ReceiverIncarnation, context: ChildContext) {
        self.incarnation = incarnation
        context.pid.onExit { _ in incarnation.runner.close() }
    }
}

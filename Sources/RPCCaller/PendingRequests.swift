import AMQPPool
import ConcurrencyPrimitives
import RPCWire
import Supervision

/// The process that owns the waiting calls and the name of the reply queue.
///
/// It has no `run()`: it lives until its supervisor stops it. When it ends, every waiting call fails with the reason, and the rest of the
/// caller is restarted with the next incarnation (one for all) and another reply queue. The table is behind a lock, so that no call needs a
/// hop to this actor.
actor PendingRequests {
    nonisolated let table: CallTable

    init(_ table: CallTable, current: CurrentIncarnation<CallTable>, context: ChildContext, registry: Pid?) {
        self.table = table
        // In this order: callers that are notified of the end of the table must not find it again.
        context.pid.onExit { reason in
            current.clear(table)
            table.closeIfDependencyEnded()
            table.close(reason)
            table.changed()
        }
        table.depends(on: context.supervisor)
        registry?.onExit { [weak table] in table?.close($0) }
        current.set(table, in: context)
        table.changed()
    }
}

import AMQPPool
import ConcurrencyPrimitives
import RPCWire
import Supervision

/// The process that owns the waiting calls and the reply queue's name: the caller's heart.
///
/// It has no `run()`: its life is its place in the tree. When it ends, every waiting call is told why, and the rest of the caller
/// is started anew around the next one (one for all), with another reply queue. The table itself sits behind a lock, so that
/// no call hops through this actor.
actor PendingRequests {
    nonisolated let table: CallTable

    init(_ table: CallTable, current: CurrentIncarnation<CallTable>, context: ChildContext, registry: Pid?) {
        self.table = table
        // In this order: who is told that the table has ended must not find it again.
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

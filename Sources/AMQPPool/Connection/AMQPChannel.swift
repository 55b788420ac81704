internal import ConcurrencyPrimitives
import Logging
package import NIOCore
import Synchronization

/// One AMQP channel: an independent conversation on a connection.
///
/// Its executor is its connection's event loop. It is over when this side closes it, when the broker does (any error of an
/// operation is one: 404, 406, ...), or when its connection ends; it does not come back. Operations run one at a time, in
/// the order in which they were called.
public actor AMQPChannel {
    /// The connection it belongs to.
    public nonisolated let connection: AMQPConnection
    /// Its number on the connection. A later channel may have the same.
    public nonisolated let number: UInt16
    nonisolated let outbox: ChannelOutbox
    nonisolated let end = OneShot<AMQPError>()
    nonisolated let stateBroadcast = StateBroadcast(ChannelState.open)
    /// Of the queues that were declared here, what type the declaration named.
    nonisolated let declaredTypes = Mutex<[String: QueueArguments.QueueType]>([:])
    private nonisolated let isSealed = Atomic(false)
    private nonisolated let closedForPublish = Atomic(false)

    private var machine: ChannelStateMachine
    private var operations: [UInt64: Operation] = [:]
    private var lastOperation = OperationSlots.internalID
    private var closeDeadline: CloseDeadline?
    /// The memory of the actions before, used again for the next.
    private var spareActions: [ChannelStateMachine.Action] = []
    /// Entries of the outbox that were fetched, from `fetchedIndex` on still to be written.
    private var fetched: [ChannelOutbox.Entry] = []
    private var fetchedIndex = 0
    private var isDraining = false
    private var isStalled = false
    var publishes: [UInt64: PendingPublish] = [:]
    var lastPublish: UInt64 = 0
    var waitingPublishes = WaitingPublishes()

    /// Deliveries that were not handed on because their headers, properties or size are not accepted. Each is logged with its
    /// queue, unless there are more than one a second.
    public private(set) var refusedDeliveries = 0
    private var nextRefusalLog: ContinuousClock.Instant?
    private var unloggedRefusals = 0
    /// Returned messages that match no unconfirmed one.
    package private(set) var unmatchedReturns = 0
    private var returnHandler: (@Sendable (MessageProperties) -> Void)?

    private struct Operation {
        var continuation: CheckedContinuation<Result<ChannelStateMachine.Reply, AMQPError>, Never>
        var deadline: Scheduled<Void>
    }

    /// The event loop.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { connection.unownedExecutor }

    package nonisolated var eventLoop: any EventLoop { connection.eventLoop }
    nonisolated var configuration: ConnectionConfiguration { connection.configuration }

    init(number: UInt16, connection: AMQPConnection, outbox bounds: ChannelOutbox.Bounds) {
        self.number = number
        self.connection = connection
        let configuration = connection.configuration
        machine = ChannelStateMachine(
            maximumUnconfirmed: configuration.maximumUnconfirmed,
            maximumWaitingOperations: configuration.maximumWaitingOperations,
            maximumIncomingMessageSize: configuration.maximumIncomingMessageSize
        )
        outbox = ChannelOutbox(bounds)
    }

    func open(timeout: Duration?) async throws(AMQPError) {
        _ = try await operation(.channelOpen, timeout: timeout)
    }

    /// Whether the broker confirms this channel's messages.
    public var isConfirming: Bool { machine.isConfirming }

    /// Messages written and not confirmed yet.
    public var unconfirmed: Int { machine.unconfirmed }

    /// What was last asked for with ``setPrefetch(_:timeout:)``; `nil` before.
    var prefetch: UInt16?

    /// How many consumers it has.
    var consumerCount: Int { machine.consumers.count }

    /// Operations that somebody waits for.
    var pendingOperations: Int { operations.count }

    // MARK: Closing

    /// Closes by handshake: what was submitted before is written first, messages that are unconfirmed when the broker
    /// acknowledges count as delivered, operations that are pending fail.
    ///
    /// Returns when the channel is over: after `timeout` at the latest, or a second later if the event loop is stuck. Of several
    /// who close it the least patient counts. A cancelled task returns at once, while the handshake goes on. What consumers did
    /// not acknowledge is requeued by the broker.
    ///
    /// - Parameter timeout: nil is ``ConnectionConfiguration/closeTimeout``.
    public nonisolated func close(timeout: Duration? = nil) async {
        let timeout = (timeout ?? configuration.closeTimeout).bounded
        onEventLoop { $0.beginClose(timeout: timeout) }
        _ = await end.wait(atMost: timeout + .seconds(1))
    }

    /// Begins to close by handshake, as ``close(timeout:)`` does, for those who wait for nothing: the event loop ends it within
    /// ``ConnectionConfiguration/closeTimeout``.
    package nonisolated func beginClose() {
        let timeout = configuration.closeTimeout.bounded
        onEventLoop { $0.beginClose(timeout: timeout) }
    }

    private func beginClose(timeout: Duration) {
        guard machine.closedError == nil else { return }
        drainBeforeClose()
        seal(.channelClosed)
        drive { $0.close(&$1) }
        closeDeadline = CloseDeadline(after: timeout, unlessBefore: closeDeadline, on: eventLoop) {
            self.assumeIsolated { channel in channel.drive { $0.closeTimedOut(after: timeout, &$1) } }
        }
    }

    /// Waits until the channel is over, and tells why: ``AMQPError/channelClosed`` when this side closed it. Returns nil
    /// only when the task was cancelled before.
    public nonisolated func waitUntilClosed() async -> AMQPError? {
        await end.wait()
    }

    /// Why the channel is over, or nil while it is open.
    public nonisolated var closedError: AMQPError? { end.current }

    /// Whether the broker has closed the channel for a message, and not for an operation.
    nonisolated var isClosedForPublish: Bool { closedForPublish.load(ordering: .acquiring) }

    /// Whether the channel is open and its connection not blocked.
    package nonisolated var isReady: Bool { !isSealed.load(ordering: .acquiring) && !connection.isBlocked }

    /// Whether it takes nothing more.
    nonisolated var isClosing: Bool { isSealed.load(ordering: .acquiring) }

    /// Runs when the channel is over: on the event loop, or at once if it is over already. Must not block.
    package nonisolated func onClosed(_ handler: @escaping @Sendable (AMQPError) -> Void) {
        end.whenSet(handler)
    }

    /// Runs on the event loop for each returned message that waits for no confirm, with its properties: on a channel without confirms,
    /// all that are mandatory and that no queue takes. Must not block.
    package func onReturn(_ handler: @escaping @Sendable (MessageProperties) -> Void) {
        returnHandler = handler
    }

    // MARK: Operations

    /// Sends a request in its turn and waits for the answer.
    func operation(_ request: Method, timeout: Duration?) async throws(AMQPError) -> ChannelStateMachine.Reply {
        try await operation(request, timeout: timeout) { machine, id, actions in machine.perform(id, request, &actions)
        }
    }

    func operation(
        _ request: Method,
        timeout: Duration?,
        _ input: (inout ChannelStateMachine, UInt64, inout [ChannelStateMachine.Action]) -> Void
    ) async throws(AMQPError) -> ChannelStateMachine.Reply {
        if let problem = request.nameProblem { throw .invalidArgument(problem) }
        if let error = refusal(of: request) { throw .notSent(.unencodable(error)) }
        lastOperation += 1
        let id = lastOperation
        let timeout = (timeout ?? configuration.operationTimeout).bounded
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let deadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
                    self.assumeIsolated { $0.abandon(id, .timedOut(operation: request.name, after: timeout)) }
                }
                operations[id] = Operation(continuation: continuation, deadline: deadline)
                drive { input(&$0, id, &$1) }
            }
        } onCancel: {
            onEventLoop { $0.abandon(id, .cancelled(operation: request.name)) }
        }
        return try result.get()
    }

    /// Why the request cannot be encoded, found out before anything depends on its being sent.
    private func refusal(of request: Method) -> EncodingError? {
        connection.assumeIsolated { $0.refusal(of: request) }
    }

    private func abandon(_ id: UInt64, _ error: AMQPError) {
        drive { $0.abandon(id, error, &$1) }
    }

    // MARK: Frames

    /// Takes consecutive frames, until one of them ends the connection.
    func receive(_ frames: [Frame]) {
        drive { $0.receive(frames, &$1) }
        if connection.isOver { return }
        if isStalled { drain() }
    }

    /// The connection begins to close: what waits is written, nothing more is taken.
    func connectionClosing() {
        guard machine.closedError == nil else { return }
        drainBeforeClose()
        seal(.connectionClosed)
        drive { $0.connectionClosing(&$1) }
    }

    func connectionEnded(_ error: AMQPError, isClean: Bool, cause: UInt32?) {
        drive { $0.connectionEnded(error, isClean: isClean, cause: cause, &$1) }
    }

    // MARK: The outbox

    /// Encodes what waits in the outbox because there was no room for it.
    ///
    /// - Returns: whether more waits.
    func drainIfStalled(_ share: WriteBatch.Share) -> Bool {
        if isStalled { drain(share: share) }
        return isStalled
    }

    /// Encodes what waits in the outbox, as far as it may be written now.
    ///
    /// - Parameters:
    ///   - isLast: the channel is about to close. Then the bounds do not count, and acknowledgements are written also
    ///     behind a write that does not end, up to the first message: that is not written, and what it answers must not be
    ///     acknowledged.
    ///   - share: how much. What is left waits for the next turn.
    func drain(isLast: Bool = false, share: WriteBatch.Share = .all) {
        // Encoding calls nobody back but `mayWrite`, which must not call back in here.
        guard !isDraining else { return }
        isDraining = true
        defer {
            isDraining = false
            if !waitingPublishes.isEmpty { admitWaitingPublishes() }
        }
        isStalled = false
        var share = share
        var done = (count: 0, bytes: 0)
        repeat {
            done = (0, 0)
            while fetchedIndex < fetched.count {
                let written = write(&share, isLast: isLast)
                done.count += written.count
                done.bytes += written.bytes
                // What it was told may have sealed the channel: then nothing is left.
                guard written.count > 0 || fetchedIndex == fetched.count else {
                    isStalled = true
                    fetched.removeSubrange(..<fetchedIndex)
                    fetchedIndex = 0
                    outbox.done(done)
                    return
                }
            }
            fetched.removeAll(keepingCapacity: true)
            fetchedIndex = 0
        } while outbox.fetch(into: &fetched, done: done)
    }

    /// Writes the entries from ``fetchedIndex`` on as far as that is possible now, and moves it on.
    private func write(_ share: inout WriteBatch.Share, isLast: Bool) -> WriteBatch.Written {
        let entries = fetched[fetchedIndex...]
        let room = isLast ? .max : machine.publishRoom
        let written = connection.assumeIsolated { connection in
            connection.send(entries, of: number, room: room, share: &share, isLast: isLast)
        }
        // Before anybody is told: what follows from that must not find them here any more.
        let dealtWith = entries.prefix(written.count)
        fetchedIndex += written.count
        let isConfirming = machine.isConfirming
        if isConfirming { machine.published(dealtWith, but: written.exceptions) }
        if !isConfirming || !written.exceptions.isEmpty { tell(dealtWith, written.exceptions, sent: !isConfirming) }
        return written
    }

    /// Tells what is known at once: that a message was not written, or, without confirms, that it was.
    private func tell(
        _ entries: ArraySlice<ChannelOutbox.Entry>,
        _ exceptions: [(index: Int, WriteBatch.Written.Exception)],
        sent: Bool
    ) {
        var exceptions = exceptions[...]
        for index in entries.indices {
            let exception = exceptions.first?.index == index ? exceptions.popFirst()?.1 : nil
            switch (entries[index], exception) {
            case (.publish(let publish), nil): if sent, !publish.tellsFailuresOnly { publish.end(.sent) }
            case (.publish(let publish), .unwanted): publish.end(.notWritten(.cancelled(operation: "publish")))
            case (.publish(let publish), .refused(let error)): publish.end(.refused(.unencodable(error)))
            case (.acknowledge, .refused(let error)), (.reject, .refused(let error)), (.giveBack, .refused(let error)):
                connection.assumeIsolated { $0.fail(.unencodable(error)) }
            case (.acknowledge, _), (.reject, _), (.giveBack, _): break
            }
        }
    }

    /// Writes all that waits in the outbox; nothing while the broker reads nothing.
    private func drainBeforeClose() {
        if !connection.isBlocked { drain(isLast: true) }
    }

    /// Fails what waits in the outbox, and refuses what comes later.
    private func seal(_ error: AMQPError) {
        isSealed.store(true, ordering: .releasing)
        stateBroadcast.update { .closing }
        let rest = fetched[fetchedIndex...] + outbox.close(error)
        fetched = []
        fetchedIndex = 0
        isStalled = false
        for case .publish(let publish) in rest { publish.end(.notWritten(error)) }
        for publish in waitingPublishes.removeAll() { publish.end(.notWritten(error)) }
    }

    // MARK: Actions

    private func drive(_ input: (inout ChannelStateMachine, inout [ChannelStateMachine.Action]) -> Void) {
        var actions: [ChannelStateMachine.Action] = []
        swap(&actions, &spareActions)
        input(&machine, &actions)
        if !actions.isEmpty {
            for action in actions { perform(action) }
            actions.removeAll(keepingCapacity: true)
        }
        swap(&actions, &spareActions)
    }

    private func perform(_ action: ChannelStateMachine.Action) {
        switch action {
        case .send(let method): send(method)
        case .complete(let id, let result):
            guard let operation = operations.removeValue(forKey: id) else { break }
            operation.deadline.cancel()
            operation.continuation.resume(returning: result)
        case .settle(let settlement): settlement.tell()
        case .deliver(let consumer, let delivery): consumer.onDelivery(delivery)
        case .consumerCancelled(let consumer): consumer.onCancel()
        case .deliveryRefused(let refused): refusedDelivery(refused)
        case .handOverRefused(let consumer, let refused):
            refusedDelivery(refused)
            consumer.onRefused?(refused)
        case .returnUnmatched(let properties):
            unmatchedReturns += 1
            returnHandler?(properties)
        case .sealed(let error): seal(error)
        case .closed(let error):
            closeDeadline?.cancel()
            closedForPublish.store(machine.isClosedForPublish, ordering: .releasing)
            end.set(error)
            stateBroadcast.finish(.closed)
        case .released: connection.assumeIsolated { $0.released(number) }
        case .failConnection(let error): connection.assumeIsolated { $0.fail(error) }
        }
    }

    private func refusedDelivery(_ refused: RefusedDelivery) {
        refusedDeliveries += 1
        let now = ContinuousClock.now
        // Whoever may publish must not be able to fill the log.
        if let next = nextRefusalLog, now < next {
            unloggedRefusals += 1
            return
        }
        nextRefusalLog = now + .seconds(1)
        defer { unloggedRefusals = 0 }
        connection.logger.warning(
            "a message cannot be handed on",
            metadata: ([
                "queue": "\(refused.queue)", "exchange": "\(refused.exchange)", "routing-key": "\(refused.routingKey)",
                "message-id": "\(refused.properties?.messageID ?? "")", "reason": "\(refused.reason)",
                "unlogged": "\(unloggedRefusals)",
            ] as Logger.Metadata).escaped
        )
    }

    private func send(_ method: Method) {
        // Requests were checked before; the rest has nothing that could be refused.
        if let error = connection.assumeIsolated({ $0.send(method, channel: number) }) {
            connection.assumeIsolated { $0.fail(.unencodable(error)) }
        }
    }

    /// Runs on the event loop, after what is running there now.
    nonisolated func onEventLoop(_ body: @escaping @Sendable (isolated AMQPChannel) -> Void) {
        eventLoop.execute { self.assumeIsolated { body($0) } }
    }
}

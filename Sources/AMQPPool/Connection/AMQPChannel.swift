internal import ConcurrencyPrimitives
import Logging
package import NIOCore
import Synchronization

/// An AMQP channel: an independent session on a connection.
///
/// Its executor is its connection's event loop. The channel ends when this side closes it, when the broker closes it (for any error of an
/// operation: 404, 406, ...), or when its connection ends; it is not reopened. Operations run one at a time, in the order of the calls.
public actor AMQPChannel {
    /// The channel's connection.
    public nonisolated let connection: AMQPConnection
    /// The channel's number on the connection. Numbers are reused.
    public nonisolated let number: UInt16
    nonisolated let outbox: ChannelOutbox
    nonisolated let end = OneShot<AMQPError>()
    nonisolated let stateBroadcast = StateBroadcast(ChannelState.open)
    /// The queue types in the declarations on this channel.
    nonisolated let declaredTypes = Mutex<[String: QueueArguments.QueueType]>([:])
    private nonisolated let isSealed = Atomic(false)
    private nonisolated let closedForPublish = Atomic(false)

    private var machine: ChannelStateMachine
    private var operations: [UInt64: Operation] = [:]
    private var lastOperation = OperationSlots.internalID
    private var closeDeadline: CloseDeadline?
    /// The memory of the previous actions, for reuse.
    private var spareActions: [ChannelStateMachine.Action] = []
    /// Entries fetched from the outbox; those from `fetchedIndex` still have to be written.
    private var fetched: [ChannelOutbox.Entry] = []
    private var fetchedIndex = 0
    private var isDraining = false
    private var isStalled = false
    var publishes: [UInt64: PendingPublish] = [:]
    var lastPublish: UInt64 = 0
    var waitingPublishes = WaitingPublishes()

    /// The number of deliveries that were not accepted because of their headers, properties or size. Each is logged with its queue, at most
    /// one a second.
    public private(set) var refusedDeliveries = 0
    private var nextRefusalLog: ContinuousClock.Instant?
    private var unloggedRefusals = 0
    /// The number of returned messages that match no unconfirmed message.
    package private(set) var unmatchedReturns = 0
    private var returnHandler: (@Sendable (MessageProperties) -> Void)?

    private struct Operation {
        var continuation: CheckedContinuation<Result<ChannelStateMachine.Reply, AMQPError>, Never>
        var deadline: Scheduled<Void>
    }

    /// The connection's event loop.
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

    /// Whether the channel is in confirm mode.
    public var isConfirming: Bool { machine.isConfirming }

    /// The number of messages written and not yet confirmed.
    public var unconfirmed: Int { machine.unconfirmed }

    /// The last value set by ``setPrefetch(_:timeout:)``; `nil` before.
    var prefetch: UInt16?

    /// The number of consumers.
    var consumerCount: Int { machine.consumers.count }

    /// The number of operations that callers wait for.
    var pendingOperations: Int { operations.count }

    // MARK: Closing

    /// Closes the channel by handshake: submitted messages are written first, messages that are unconfirmed when the broker acknowledges
    /// count as delivered, and pending operations fail.
    ///
    /// Returns when the channel is closed: after `timeout` at the latest, or a second later if the event loop is stuck. With several
    /// callers the earliest deadline counts. A cancelled task returns immediately while the handshake continues. The broker requeues the
    /// consumers' unacknowledged deliveries.
    ///
    /// - Parameter timeout: `nil` is ``ConnectionConfiguration/closeTimeout``.
    public nonisolated func close(timeout: Duration? = nil) async {
        let timeout = (timeout ?? configuration.closeTimeout).bounded
        onEventLoop { $0.beginClose(timeout: timeout) }
        _ = await end.wait(atMost: timeout + .seconds(1))
    }

    /// Begins to close by handshake, like ``close(timeout:)``, without waiting: the event loop completes it within
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

    /// Waits until the channel is closed, and returns why: ``AMQPError/channelClosed`` when this side closed it. Returns `nil` only when
    /// the task was cancelled first.
    public nonisolated func waitUntilClosed() async -> AMQPError? {
        await end.wait()
    }

    /// Why the channel is closed, `nil` while it is open.
    public nonisolated var closedError: AMQPError? { end.current }

    /// Whether the broker closed the channel because of a message instead of an operation.
    nonisolated var isClosedForPublish: Bool { closedForPublish.load(ordering: .acquiring) }

    /// Whether the channel is open and its connection not blocked.
    package nonisolated var isReady: Bool { !isSealed.load(ordering: .acquiring) && !connection.isBlocked }

    /// Whether it accepts nothing more.
    nonisolated var isClosing: Bool { isSealed.load(ordering: .acquiring) }

    /// Calls `handler` when the channel is closed: on the event loop, or immediately if it is already closed. It must not block.
    package nonisolated func onClosed(_ handler: @escaping @Sendable (AMQPError) -> Void) {
        end.whenSet(handler)
    }

    /// Sets a handler for returned messages that wait for no confirm, called with their properties on the event loop: on a channel without
    /// confirms, all mandatory messages that cannot be routed. It must not block.
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

    /// Why the request cannot be encoded. Checked before anything depends on its being sent.
    private func refusal(of request: Method) -> EncodingError? {
        connection.assumeIsolated { $0.refusal(of: request) }
    }

    private func abandon(_ id: UInt64, _ error: AMQPError) {
        drive { $0.abandon(id, error, &$1) }
    }

    // MARK: Frames

    /// Processes consecutive frames, up to one that ends the connection.
    func receive(_ frames: [Frame]) {
        drive { $0.receive(frames, &$1) }
        if connection.isOver { return }
        if isStalled { drain() }
    }

    /// Prepares for the close of the connection: writes what waits, and accepts nothing more.
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

    /// Encodes entries that were left in the outbox for lack of room.
    ///
    /// - Returns: Whether more entries wait.
    func drainIfStalled(_ share: WriteBatch.Share) -> Bool {
        if isStalled { drain(share: share) }
        return isStalled
    }

    /// Encodes entries of the outbox, as far as they may be written now.
    ///
    /// - Parameters:
    ///   - isLast: Whether the channel is about to close. The limits do not apply then, and acknowledgements are written even while another
    ///     write is in progress, up to the first message: that message is not written, and the delivery it answers must not be
    ///     acknowledged.
    ///   - share: How much to encode. The rest waits for the next turn.
    func drain(isLast: Bool = false, share: WriteBatch.Share = .all) {
        // Encoding calls nothing but `mayWrite`, which must not call back into this.
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
                // An observer may have caused the channel to be sealed: then nothing is left.
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

    /// Writes the entries from ``fetchedIndex`` as far as that is possible now, and advances it.
    private func write(_ share: inout WriteBatch.Share, isLast: Bool) -> WriteBatch.Written {
        let entries = fetched[fetchedIndex...]
        let room = isLast ? .max : machine.publishRoom
        let written = connection.assumeIsolated { connection in
            connection.send(entries, of: number, room: room, share: &share, isLast: isLast)
        }
        // Removed before observers are notified, because their reactions must not find them here.
        let dealtWith = entries.prefix(written.count)
        fetchedIndex += written.count
        let isConfirming = machine.isConfirming
        if isConfirming { machine.published(dealtWith, but: written.exceptions) }
        if !isConfirming || !written.exceptions.isEmpty { tell(dealtWith, written.exceptions, sent: !isConfirming) }
        return written
    }

    /// Delivers outcomes that are known immediately: the message was not written or, without confirms, it was.
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

    /// Writes everything in the outbox; nothing while the broker does not read.
    private func drainBeforeClose() {
        if !connection.isBlocked { drain(isLast: true) }
    }

    /// Fails the entries in the outbox, and refuses later ones.
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
        // Publishers must not be able to fill the log.
        if let next = nextRefusalLog, now < next {
            unloggedRefusals += 1
            return
        }
        nextRefusalLog = now + .seconds(1)
        defer { unloggedRefusals = 0 }
        connection.logger.warning(
            "a delivery cannot be accepted",
            metadata: ([
                "queue": "\(refused.queue)", "exchange": "\(refused.exchange)", "routing-key": "\(refused.routingKey)",
                "message-id": "\(refused.properties?.messageID ?? "")", "reason": "\(refused.reason)",
                "unlogged": "\(unloggedRefusals)",
            ] as Logger.Metadata).escaped
        )
    }

    private func send(_ method: Method) {
        // Requests were checked before; nothing else can be refused.
        if let error = connection.assumeIsolated({ $0.send(method, channel: number) }) {
            connection.assumeIsolated { $0.fail(.unencodable(error)) }
        }
    }

    /// Runs `body` on the event loop, after what is currently running there.
    nonisolated func onEventLoop(_ body: @escaping @Sendable (isolated AMQPChannel) -> Void) {
        eventLoop.execute { self.assumeIsolated { body($0) } }
    }
}

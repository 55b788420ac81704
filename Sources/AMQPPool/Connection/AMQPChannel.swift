internal import ConcurrencyPrimitives
import Logging
public import NIOCore
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
    private nonisolated let end = OneShot<AMQPError>()
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
    private(set) var publishes: [UInt64: PendingPublish] = [:]
    private var lastPublish: UInt64 = 0
    private(set) var waitingPublishes = WaitingPublishes()

    /// The number of deliveries that were not accepted because of their headers, properties or size. Each is logged with its queue, at most
    /// one a second.
    public private(set) var refusedDeliveries = 0
    private var nextRefusalLog: ContinuousClock.Instant?
    private var unloggedRefusals = 0
    /// The number of returned messages that match no unconfirmed message.
    package private(set) var unmatchedReturns = 0
    private var returnHandler: (@Sendable (MessageProperties) -> Void)?

    private struct Operation {
        // Not a `OneShot`: all who resume it are on the event loop, so that no lock is needed on the path of each operation.
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
    nonisolated var isReady: Bool { !isSealed.load(ordering: .acquiring) && !connection.isBlocked }

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
        var combined = 0
        repeat {
            done = (combined, 0)
            combined = 0
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
        } while fetch(done, &combined)
    }

    /// Fetches what is in the outbox. `combined` is the number of acknowledgements that others cover.
    private func fetch(_ done: (count: Int, bytes: Int), _ combined: inout Int) -> Bool {
        guard outbox.fetch(into: &fetched, done: done) else { return false }
        combined = machine.combineAcknowledgements(&fetched)
        return true
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
        if !isConfirming || !written.exceptions.isEmpty {
            publishOutcomes(dealtWith, written.exceptions, sent: !isConfirming)
        }
        return written
    }

    /// Delivers outcomes that are known immediately: the message was not written or, without confirms, it was.
    private func publishOutcomes(
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
        case .settle(let settlement): settlement.deliver()
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
    private nonisolated func onEventLoop(_ body: @escaping @Sendable (isolated AMQPChannel) -> Void) {
        eventLoop.execute { self.assumeIsolated { body($0) } }
    }
}

extension AMQPChannel {
    /// Publishes a message and waits until the broker has confirmed it. The first call puts the channel into confirm mode.
    ///
    /// A blocked or stuck connection delays the message until the timeout at most. The channel accepts at most
    /// ``ConnectionConfiguration/maximumOutboxEntries`` and ``ConnectionConfiguration/maximumOutboxBytes`` of unwritten messages; further
    /// messages wait for room in order of arrival, also until the timeout at most.
    ///
    /// - Parameters:
    ///   - body: The message; at most ``ConnectionConfiguration/maximumMessageSize`` bytes.
    ///   - properties: Its properties.
    ///   - exchange: The exchange; empty for the default exchange, which routes by queue name.
    ///   - routingKey: The routing key.
    ///   - mandatory: Whether a message that cannot be routed to a queue is an error.
    ///   - timeout: The time limit; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Throws: ``AMQPError/returned(code:text:exchange:routingKey:)``, ``AMQPError/nacked``, or
    ///   ``AMQPError/refused(code:text:exchange:routingKey:)``, for which the broker closes the channel; ``AMQPError/notSent(_:)`` with the
    ///   cause when nothing was written, which is ``AMQPError/overloaded(_:)`` when there was no room in time;
    ///   ``AMQPError/unconfirmed(_:)`` with the cause when the message was written but it is unknown whether the broker took responsibility
    ///   for it.
    public func publish(
        _ body: ByteBuffer,
        properties: MessageProperties = MessageProperties(),
        exchange: String = "",
        routingKey: String,
        mandatory: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let message = OutgoingMessage(
            body,
            properties: properties,
            exchange: exchange,
            routingKey: routingKey,
            mandatory: mandatory
        )
        guard let metrics = configuration.metrics else { return try await publishUnmeasured(message, timeout: timeout) }
        let begun = metrics.began()
        do throws(AMQPError) {
            try await publishUnmeasured(message, timeout: timeout)
            metrics.ended(to: message.destination, since: begun, nil)
        } catch {
            metrics.ended(to: message.destination, since: begun, error)
            throw error
        }
    }

    /// The same without metrics, for callers that measure it themselves.
    func publishUnmeasured(_ message: OutgoingMessage, timeout: Duration?) async throws(AMQPError) {
        if let problem = message.method.nameProblem { throw .notSent(.invalidArgument(problem)) }
        if !isConfirming { try await selectConfirms(timeout: timeout) }
        let timeout = (timeout ?? configuration.operationTimeout).bounded
        lastPublish += 1
        let id = lastPublish
        var waiting = Publish(
            exchange: message.exchange,
            routingKey: message.routingKey,
            mandatory: message.mandatory,
            properties: message.properties,
            body: message.body,
            isWanted: { self.assumeIsolated { $0.publishIsWanted(id) } },
            outcome: { outcome in self.assumeIsolated { $0.published(id, outcome) } }
        )
        waiting.tellsRefusals = true
        let publish = waiting
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let deadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
                    self.assumeIsolated { $0.abandonPublish(id, .timedOut(operation: "publish", after: timeout)) }
                }
                publishes[id] = PendingPublish(
                    continuation: continuation,
                    deadline: deadline,
                    exchange: message.exchange,
                    routingKey: message.routingKey
                )
                submitInTurn(publish, id)
            }
        } onCancel: {
            onEventLoop { $0.abandonPublish(id, .cancelled(operation: "publish")) }
        }
        try result.get()
    }

    private func submitInTurn(_ publish: Publish, _ id: UInt64) {
        switch waitingPublishes.isEmpty ? offer(publish) : .full {
        case .taken: break
        case .full: waitingPublishes.append(publish, id)
        case .refused(let outcome): published(id, outcome)
        }
    }

    /// Admits waiting messages when the outbox has room again.
    private func admitWaitingPublishes() {
        while let publish = waitingPublishes.first {
            let offer = offer(publish)
            if case .full = offer { return }
            waitingPublishes.removeFirst()
            if case .refused(let outcome) = offer { publish.end(outcome) }
        }
    }

    private func publishIsWanted(_ id: UInt64) -> Bool {
        publishes[id]?.isWritten = true
        if configuration.metrics != nil { publishes[id]?.written = .now }
        return publishes[id] != nil
    }

    private func published(_ id: UInt64, _ outcome: PublishOutcome) {
        guard let pending = publishes.removeValue(forKey: id) else { return }
        pending.deadline.cancel()
        if let written = pending.written {
            switch outcome {
            case .confirmed, .nacked, .returned: configuration.metrics?.confirmed(since: written)
            case .presumedDelivered, .sent, .notWritten, .unknown, .refused: break
            }
        }
        let result = outcome.result(
            exchange: pending.exchange,
            routingKey: pending.routingKey,
            closedError: closedError ?? connection.closedError ?? .channelClosed
        )
        pending.continuation.resume(returning: result)
    }

    /// The publisher no longer waits. If the message is still in the outbox, it is not sent; if it was sent, its outcome is ignored.
    private func abandonPublish(_ id: UInt64, _ error: AMQPError) {
        guard let pending = publishes.removeValue(forKey: id) else { return }
        pending.deadline.cancel()
        let foundNoRoom = waitingPublishes.remove(id)
        if pending.isWritten {
            pending.continuation.resume(returning: .failure(.unconfirmed(error)))
        } else if case .timedOut = error, let reason = connection.blockedReason {
            pending.continuation.resume(returning: .failure(.notSent(.blocked(reason: reason))))
        } else if case .timedOut = error, foundNoRoom {
            pending.continuation.resume(returning: .failure(.notSent(.outboxIsFull)))
        } else {
            pending.continuation.resume(returning: .failure(.notSent(error)))
        }
    }

    /// Submits a message from any thread, without waiting. The event loop is woken once per batch, and writes everything submitted by then
    /// in one go. The outcome is delivered on the event loop, exactly once.
    package nonisolated func submit(_ publish: Publish) {
        switch offer(publish) {
        case .taken: break
        case .full: eventLoop.execute { publish.end(.notWritten(.outboxIsFull)) }
        case .refused(let outcome): eventLoop.execute { publish.end(outcome) }
        }
    }

    /// Submits as many messages as there is room for. Returns their number, including those whose outcome has already been delivered.
    private func offer(_ publishes: [Publish]) -> Int {
        let (taken, admission) = outbox.append(publishes)
        switch admission {
        case .queued, .full: break
        case .wakeUp: onEventLoop { $0.drain() }
        case .closed(let error):
            for publish in publishes { publish.end(.notWritten(error)) }
            return publishes.count
        }
        return taken
    }

    private enum Offer {
        case taken
        case full
        /// The message already has its outcome.
        case refused(PublishOutcome)
    }

    private nonisolated func offer(_ publish: Publish) -> Offer {
        let (bytes, limit) = (publish.body.readableBytes, configuration.maximumMessageSize)
        guard bytes <= limit else { return .refused(.refused(.messageTooLarge(bytes: bytes, limit: limit))) }
        switch outbox.append(.publish(publish)) {
        case .queued: return .taken
        case .full: return .full
        case .closed(let error): return .refused(.notWritten(error))
        case .wakeUp:
            onEventLoop { $0.drain() }
            return .taken
        }
    }

    /// Acknowledges a delivery of this channel, from any thread, without waiting. Does nothing when the channel is closed: the broker has
    /// requeued the delivery by then.
    ///
    /// Acknowledgements that are written together share a frame where they cover no delivery that has not been settled.
    ///
    /// - Parameters:
    ///   - deliveryTag: The tag of the delivery.
    ///   - multiple: Whether to acknowledge all earlier deliveries of this channel too. Not for consumers that handle several deliveries
    ///     concurrently.
    public nonisolated func acknowledge(_ deliveryTag: UInt64, multiple: Bool = false) {
        if case .wakeUp = outbox.append(.acknowledge(deliveryTag: deliveryTag, multiple: multiple)) {
            onEventLoop { $0.drain() }
        }
    }

    /// Acknowledges deliveries of this channel like ``acknowledge(_:multiple:)``, all at once.
    nonisolated func acknowledge(_ deliveryTags: [UInt64]) {
        if case .wakeUp = outbox.append(acknowledging: deliveryTags) { onEventLoop { $0.drain() } }
    }

    /// Rejects a delivery of this channel, from any thread, without waiting. Does nothing when the channel is closed.
    ///
    /// Sends `basic.reject`, which a quorum queue counts towards its delivery limit on every version of RabbitMQ. The otherwise equivalent
    /// `basic.nack` is not counted since 4.3, so a message that is always returned with it would be redelivered forever.
    ///
    /// - Parameters:
    ///   - deliveryTag: The tag of the delivery.
    ///   - requeue: Whether the broker redelivers it; if not, it is dead-lettered or dropped.
    public nonisolated func reject(_ deliveryTag: UInt64, requeue: Bool) {
        if case .wakeUp = outbox.append(.reject(deliveryTag: deliveryTag, requeue: requeue)) {
            onEventLoop { $0.drain() }
        }
    }
}

extension AMQPChannel {
    /// Returns an untried delivery of this channel to the broker, from any thread, without waiting: `basic.nack`, which is not counted as a
    /// delivery since RabbitMQ 4.3.
    package nonisolated func giveBack(_ deliveryTag: UInt64) {
        if case .wakeUp = outbox.append(.giveBack(deliveryTag: deliveryTag)) { onEventLoop { $0.drain() } }
    }
}

extension AMQPChannel {
    /// Publishes messages in this order, written in one go, and waits for the outcome of each. It costs a fraction of publishing them one
    /// by one. The first call puts the channel into confirm mode.
    ///
    /// - Parameters:
    ///   - messages: The messages. Those that the channel has no room for wait, like a single message.
    ///   - timeout: The time limit for all of them together; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Returns: The outcome of each message, at its index: success when the broker has confirmed it, otherwise an error like those thrown
    ///   by ``publish(_:properties:exchange:routingKey:mandatory:timeout:)``. A failed message does not affect the others, unless the
    ///   broker refuses it: it closes the channel, and the messages after it are ``AMQPError/notSent(_:)``.
    public func publish(
        contentsOf messages: [OutgoingMessage],
        timeout: Duration? = nil
    ) async -> [Result<Void, AMQPError>] {
        guard let metrics = configuration.metrics else { return await publishUnmeasured(messages, timeout: timeout) }
        let begun = metrics.began(messages.count)
        let results = await publishUnmeasured(messages, timeout: timeout)
        for (message, result) in zip(messages, results) { metrics.ended(to: message.destination, since: begun, result) }
        return results
    }

    /// The same without metrics, for callers that measure it themselves.
    func publishUnmeasured(_ messages: [OutgoingMessage], timeout: Duration?) async -> [Result<Void, AMQPError>] {
        guard !messages.isEmpty else { return [] }
        if !isConfirming {
            do throws(AMQPError) {
                try await selectConfirms(timeout: timeout)
            } catch {
                let error = error.asNotSent
                return messages.map { _ in .failure(error) }
            }
        }
        let timeout = (timeout ?? configuration.operationTimeout).bounded
        let batch = PublishBatch(messages)
        await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let deadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
                    self.assumeIsolated { $0.abandon(batch, .timedOut(operation: "publish", after: timeout)) }
                }
                submit(messages, batch)
                batch.whenAllHaveEnded {
                    deadline.cancel()
                    continuation.resume()
                }
            }
        } onCancel: {
            onEventLoop { $0.abandon(batch, .cancelled(operation: "publish")) }
        }
        let closedError = closedError ?? connection.closedError ?? .channelClosed
        return batch.results(closedError: closedError)
    }

    private func submit(_ messages: [OutgoingMessage], _ batch: PublishBatch) {
        var publishes: [Publish] = []
        publishes.reserveCapacity(messages.count)
        for (index, message) in messages.enumerated() {
            let problem = message.method.nameProblem
            let (bytes, limit) = (message.body.readableBytes, configuration.maximumMessageSize)
            if let problem {
                batch.published(index, .refused(.invalidArgument(problem)))
            } else if bytes > limit {
                batch.published(index, .refused(.messageTooLarge(bytes: bytes, limit: limit)))
            } else {
                var publish = Publish(
                    exchange: message.exchange,
                    routingKey: message.routingKey,
                    mandatory: message.mandatory,
                    properties: message.properties,
                    body: message.body,
                    observer: batch,
                    attempt: index
                )
                publish.tellsRefusals = true
                publishes.append(publish)
            }
        }
        let taken = waitingPublishes.isEmpty ? offer(publishes) : 0
        for publish in publishes.dropFirst(taken) {
            lastPublish += 1
            batch.waits(publish.attempt, as: lastPublish)
            waitingPublishes.append(publish, lastPublish)
        }
    }

    /// The publisher no longer waits. Waiting messages are not sent; the outcomes of sent ones are ignored.
    private func abandon(_ batch: PublishBatch, _ error: AMQPError) {
        var unsent = error
        if case .timedOut = error, let reason = connection.blockedReason { unsent = .blocked(reason: reason) }
        batch.abandon(written: error, unsent: unsent) { waitingPublishes.remove($0) }
    }
}

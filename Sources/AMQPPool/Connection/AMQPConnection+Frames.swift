internal import ConcurrencyPrimitives
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// The event loop side: writes, reads, and performs the actions of the state machine.
extension AMQPConnection {
    // MARK: Writing

    /// Whether the socket has taken everything so far, and the broker is reading.
    var isFlowing: Bool { machine.isOpen && machine.blockedReason == nil && !batch.isWriting }

    /// Encodes a method, which is written at the end of this tick; returns why if it cannot be encoded.
    func send(_ method: Method, channel: UInt16) -> EncodingError? {
        do throws(EncodingError) {
            try batch.append { buffer throws(EncodingError) in
                try encoder.encode(method, channel: channel, into: &buffer)
            }
            requestFlush()
            return nil
        } catch {
            return error
        }
    }

    /// Encodes a channel's entries, which are written at the end of this tick, up to the first entry that has to wait: the channel is
    /// called again when there may be room.
    func send(
        _ entries: ArraySlice<ChannelOutbox.Entry>,
        of channel: UInt16,
        room: Int,
        share: inout WriteBatch.Share,
        isLast: Bool
    ) -> WriteBatch.Written {
        let written = batch.append(
            entries,
            of: channel,
            room: room,
            share: &share,
            isLast: isLast,
            isOpen: machine.isOpen && machine.blockedReason == nil,
            by: encoder
        )
        if written.lacksRoom { hasStalledChannel = true }
        if written.count > 0 { requestFlush() }
        return written
    }

    /// Why a request cannot be encoded, `nil` if it can.
    func refusal(of method: Method) -> EncodingError? {
        var scratch = ByteBuffer()
        do {
            try encoder.encode(method, channel: 1, into: &scratch)
            return nil
        } catch {
            return error
        }
    }

    private func requestFlush() {
        guard !isFlushScheduled, !isReading, !batch.isWriting else { return }
        isFlushScheduled = true
        onEventLoop { $0.flush() }
    }

    private func flush() {
        isFlushScheduled = false
        guard let transport, let bytes = batch.begin() else { return }
        let written = eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { result in self.assumeIsolated { $0.wrote(result) } }
        transport.pipeline.syncOperations.writeAndFlush(NIOAny(bytes), promise: written)
    }

    private func wrote(_ result: Result<Void, any Error>) {
        // After a failed write the transport ends; nothing may be written any more.
        guard case .success = result else { return }
        batch.finished()
        machine.wrote(at: .now)
        if batch.isDue { requestFlush() }
        drainChannels()
    }

    /// Lets the channels that found no room write: first the acknowledgements at the head of their queues, then messages, an equal share
    /// per channel in turn until there is no room. A channel that publishes more than the socket takes therefore delays others by one write
    /// at most.
    private func drainChannels() {
        guard hasStalledChannel, isFlowing else { return }
        hasStalledChannel = false
        var waiting: [AMQPChannel] = []
        let inTurn = channels.suffix(from: min(nextDrained, channels.count)) + channels.prefix(nextDrained)
        for case let channel? in inTurn {
            if drain(channel, .acknowledgements) { waiting.append(channel) }
            // A channel's actions may end other channels and the connection.
            guard isFlowing else { return }
        }
        let share = max(WriteBatch.limit / max(1, waiting.count), 16_384)
        while !waiting.isEmpty, isFlowing, batch.hasRoom {
            var rest: [AMQPChannel] = []
            for channel in waiting where isFlowing && batch.hasRoom {
                let size = batch.size
                // A channel that wrote nothing waits for something other than room.
                if drain(channel, .bytes(share)), batch.size > size { rest.append(channel) }
                // The next write begins after the last channel that had its turn.
                nextDrained = Int(channel.number) + 1
            }
            waiting = rest
        }
        if !waiting.isEmpty || !batch.hasRoom { hasStalledChannel = true }
    }

    private func drain(_ channel: AMQPChannel, _ share: WriteBatch.Share) -> Bool {
        channel.assumeIsolated { $0.drainIfStalled(share) }
    }

    // MARK: Reading

    func received(_ bytes: ByteBuffer) {
        guard transport != nil else { return }
        isReading = true
        machine.read(at: .now)
        decoder.append(bytes)
        // Consecutive frames of one channel, which are passed to it together.
        var frames: [Frame] = []
        do throws(FrameError) {
            repeat {
                frames.removeAll(keepingCapacity: true)
                try decoder.next(Self.maximumFrames, into: &frames)
                handOver(frames)
            } while !isOver && !frames.isEmpty
        } catch {
            handOver(frames)
            fail(.protocolViolation("\(error)"))
        }
    }

    func readCompleted() {
        isReading = false
        if !isFlushScheduled { flush() }
    }

    /// Processes a frame of the connection itself.
    private func receive(_ frame: Frame) {
        if case .method(_, let method) = frame { drive { $0.receive(method, now: .now, &$1) } }
    }

    /// The maximum number of frames passed to a channel at once: entering the channel costs as much as processing one frame.
    private static let maximumFrames = 64

    /// Passes frames to their channel.
    private func handOver(_ frames: [Frame]) {
        guard !isOver, let number = frames.first?.channel else { return }
        guard number != 0 else {
            for frame in frames where !isOver { receive(frame) }
            return
        }
        if let channel = channel(number) { channel.assumeIsolated { $0.receive(frames) } }
    }

    private func channel(_ number: UInt16) -> AMQPChannel? {
        if machine.carriesChannels, Int(number) < channels.count, let channel = channels[Int(number)] { return channel }
        fail(.protocolViolation("a frame for channel \(number), which is not open"))
        return nil
    }

    /// Closes the connection because the peer violated the protocol.
    func fail(_ error: AMQPError) {
        drive { $0.fail(error, &$1) }
    }

    func abort(_ error: AMQPError) {
        drive { $0.abort(error, &$1) }
    }

    // MARK: The transport

    func connect() {
        let timeout = (endpoint.connectionTimeout ?? configuration.connectTimeout).bounded
        openDeadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
            self.assumeIsolated { connection in connection.drive { $0.openTimedOut(after: timeout, &$1) } }
        }
        // Resolves the name, and tries its addresses in turn until one answers (RFC 8305).
        ClientBootstrap(group: eventLoop)
            .resolver(addresses.resolver(configuration.makeResolver?(eventLoop), on: eventLoop))
            .connectTimeout(TimeAmount(timeout))
            .channelInitializer { transport in
                transport.eventLoop.makeCompletedFuture { try transport.closeOnExec() }
            }
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .connect(host: endpoint.host, port: endpoint.port)
            .whenComplete { result in self.assumeIsolated { $0.connected(result) } }
    }

    private func connected(_ result: Result<any NIOCore.Channel, any Error>) {
        switch result {
        case .failure(let error): transportClosed(reason: connectFailureReason(error))
        case .success(let transport):
            guard end.current == nil else { return transport.close(promise: nil) }
            self.transport = transport
            drive { $0.connected(&$1) }
            do {
                let handler = ConnectionHandler(connection: self, tls: tls)
                try transport.pipeline.syncOperations.addHandler(handler)
                // The handshake begins when its handler is added.
                if let tls {
                    try transport.pipeline.syncOperations.addHandler(tls.makeHandler(), position: .before(handler))
                }
            } catch {
                let failure = tls.map { _ in TLSFailure.invalidSettings(reason: "\(error)") }
                return transportClosed(reason: "\(error)", failure)
            }
            if !transport.isActive { transportClosed(reason: "closed by the peer") }
        }
    }

    func transportClosed(reason: String, _ failure: TLSFailure? = nil) {
        drive { $0.transportClosed(reason: reason, tls: failure, &$1) }
    }

    // MARK: Actions

    func drive(_ input: (inout ConnectionStateMachine, inout [ConnectionStateMachine.Action]) -> Void) {
        var actions: [ConnectionStateMachine.Action] = []
        input(&machine, &actions)
        for action in actions { perform(action) }
    }

    private func perform(_ action: ConnectionStateMachine.Action) {
        switch action {
        case .sendProtocolHeader:
            batch.append { $0.writeBytes(FrameEncoder.protocolHeader) }
            requestFlush()
        case .send(let method):
            if let error = send(method, channel: 0) { abort(.unencodable(error)) }
        case .sendHeartbeat:
            // While a write is stuck, heartbeats would only accumulate.
            guard !batch.isWriting else { break }
            batch.append { encoder.encodeHeartbeat(into: &$0) }
            requestFlush()
        case .negotiated(let negotiated):
            decoder.maximumFrameSize = negotiated.frameMax
            encoder.maximumFrameSize = negotiated.frameMax
            ids = ChannelIDs(limit: negotiated.channelMax == 0 ? .max : negotiated.channelMax)
            scheduleTick()
        case .opened:
            openDeadline?.cancel()
            identify()
            opening?.resume(returning: .success(()))
            opening = nil
        case .blocked(let reason):
            setBlocked(reason)
            logger.log(
                level: isAlone ? .warning : .debug,
                "the broker blocks publishing",
                metadata: ["reason": "\(reason)"]
            )
        case .unblocked:
            setBlocked(nil)
            logger.log(level: isAlone ? .info : .debug, "the broker accepts messages again")
            drainChannels()
        case .secretUpdated: secretUpdated()
        case .ended(let error, let isClean): ended(error, isClean: isClean)
        }
    }

    private func scheduleTick() {
        guard let due = machine.nextTick(after: .now) else { return }
        tick = eventLoop.scheduleTask(in: TimeAmount(ContinuousClock.now.duration(to: due))) {
            self.assumeIsolated { connection in
                connection.drive { $0.tick(now: .now, &$1) }
                connection.scheduleTick()
            }
        }
    }

    private func ended(_ error: AMQPError, isClean: Bool) {
        ending.store(true, ordering: .releasing)
        over.store(true, ordering: .releasing)
        openDeadline?.cancel()
        closeDeadline?.cancel()
        tick?.cancel()
        closeTransport()
        let (channels, cause) = (channels, machine.closeCause)
        self.channels = []
        configuration.metrics?.channels(-channels.count { $0 != nil })
        for channel in channels {
            channel?.assumeIsolated { $0.connectionEnded(error, isClean: isClean, cause: cause) }
        }
        failSecretUpdates(error)
        setBlocked(nil)
        logger.debug("connection ended", metadata: ["endpoint": "\(endpoint.redacted)", "reason": "\(error)"])
        opening?.resume(returning: .failure(error))
        opening = nil
        end.set(error)
        stateBroadcast.finish(.closed)
    }

    /// Closes the transport after the pending writes, within a second.
    private func closeTransport() {
        guard let transport else { return }
        self.transport = nil
        guard transport.isActive, let bytes = batch.begin() else { return transport.close(promise: nil) }
        let giveUp = eventLoop.scheduleTask(in: .seconds(1)) { transport.close(promise: nil) }
        let written = eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { _ in
            giveUp.cancel()
            transport.close(promise: nil)
        }
        transport.pipeline.syncOperations.writeAndFlush(NIOAny(bytes), promise: written)
    }
}

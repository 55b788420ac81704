internal import ConcurrencyPrimitives
package import Logging
package import Supervision

/// Decides which lines are logged about something that depends on connections to a broker, as a value: events and the time in, lines out.
///
/// Each change of state is one line at `info` or above. An outage has a beginning and an end; in between there is a line for each new
/// reason, otherwise at most one a minute. Single attempts are logged at `debug`.
package struct BrokerStory: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// The subject of the lines.
    package struct Subject: Sendable {
        /// "pool", "caller", "receiver", "worker"
        var kind: String
        var name: String
        /// Its state while it works: "connected", "serving".
        var working: String
        /// Its number of connections.
        var connections: Int
        /// Whether it opens the connections itself. Otherwise the attempts are reported by whatever does.
        var opensConnections: Bool

        package init(
            kind: String,
            name: String,
            working: String = "connected",
            connections: Int,
            opensConnections: Bool = true
        ) {
            self.kind = kind
            self.name = name
            self.working = working
            self.connections = connections
            self.opensConnections = opensConnections
        }
    }

    package enum Event: Sendable {
        case started
        /// An attempt on the connection with this number failed.
        case failed(number: Int, place: Logger.Metadata, Failure, retryIn: Duration?)
        /// One more connection works. `place`: its endpoint and user.
        case up(number: Int?, place: Logger.Metadata)
        /// One connection fewer works.
        case down(Loss)
        /// The number of connections has changed. `lost`: a working one is no longer used.
        case resized(Int, lost: Bool)
        /// The broker accepts no messages on any connection, for this reason; `nil`: it does again.
        case blocked(String?)
        /// It begins to stop, with this number of messages in work.
        case stopping(inWork: Int?)
        case stopped(ExitReason)
        /// Another event of it: "paused".
        case note(Logger.Level, String, Logger.Metadata)
    }

    /// A failed attempt.
    package struct Failure: Sendable {
        /// The attempted action: "connect", "set up its channel".
        var what: String
        var reason: String
        /// Whether waiting cannot resolve it.
        var isRefusal: Bool
        /// Whether it may be temporary: the first consecutive ones are not logged.
        var mayPass: Bool

        init(connecting error: AMQPError) {
            self.init("connect", error)
        }

        init(settingUp error: any Error) {
            self.init("set up its channel", error)
        }

        init(_ what: String, _ error: any Error) {
            self.what = what
            reason = "\(error)"
            isRefusal = (error as? AMQPError)?.isRefusal ?? (error as? any BrokerRefusal)?.isRefusal ?? false
            mayPass = (error as? AMQPError)?.mayPass ?? (error as? any BrokerRefusal)?.mayPass ?? false
        }
    }

    /// Why something no longer works.
    package struct Loss: Sendable {
        var reason: String
        /// Whether it was intended.
        var isOrderly: Bool
        /// What is lost: "a connection", or if it was the last one, "the broker".
        var one: String
        var all: String

        init(reason: String, isOrderly: Bool, one: String, all: String) {
            self.reason = reason
            self.isOrderly = isOrderly
            self.one = one
            self.all = all
        }

        init(_ error: any Error) {
            reason = "\(error)"
            guard let error = error as? AMQPError else {
                (isOrderly, one, all) = (false, "a queue", "its queue")
                return
            }
            isOrderly = error.isOrderly
            one = error.isEndOfConnection ? "a connection" : "a channel"
            all = "the broker"
        }
    }

    struct Line: Sendable {
        var level: Logger.Level
        var message: String
        var metadata: Logger.Metadata
    }

    private enum Phase {
        case new, running, stopping, stopped
    }

    private struct Outage {
        var since: Instant
        var loss: Loss?
        /// Whether its beginning has been logged.
        var isTold = false
        var attempts: [Int: Int] = [:]
        /// The number of consecutive temporary failures, by connection.
        var passing: [Int: Int] = [:]
        var toldReasons: Set<String> = []
        var lastLine: Instant?
    }

    /// The maximum number of distinct reasons per outage; further changes are not logged.
    private static let maximumReasons = 16
    private static let interval = Duration.seconds(60)
    /// The number of consecutive failures that are assumed to be temporary.
    private static let maximumPassing = ChannelHistory.maximumRefusals - 1

    package private(set) var subject: Subject
    private var phase = Phase.new
    package private(set) var up = 0
    private var wasUp = false
    private var outage: Outage?
    private var blockedSince: Instant?
    private var lines: [Line] = []

    init(_ subject: Subject) {
        self.subject = subject
    }

    /// Whether it is stopping.
    var isStopping: Bool { phase == .stopping || phase == .stopped }

    /// Returns the lines to log for an event.
    mutating func handle(_ event: Event, at now: Instant) -> [Line] {
        lines = []
        switch event {
        case .started: started(at: now)
        case .failed(let number, let place, let failure, let delay): failed(number, place, failure, delay, at: now)
        case .up(let number, let place): cameUp(number, place, at: now)
        case .down(let loss): wentDown(loss, at: now)
        case .resized(let count, let lost): resized(count, lost)
        case .blocked(let reason): blocked(reason, at: now)
        case .stopping(let inWork): stopping(inWork)
        case .stopped(let reason): stopped(reason)
        case .note(let level, let text, let metadata): say(level, "\(subject.kind) \(text)", metadata)
        }
        defer { lines = [] }
        return lines
    }

    // MARK: Life

    private mutating func started(at now: Instant) {
        switch phase {
        case .running: return
        case .new, .stopping, .stopped:
            phase = .running
            (wasUp, up) = (false, 0)
            outage = Outage(since: now)
            blockedSince = nil
            say(.info, "\(subject.kind) started")
        }
    }

    /// The first event begins an outage; one during a stop does not.
    private mutating func beginUnlessStopping(at now: Instant) {
        if phase != .stopping { started(at: now) }
    }

    private mutating func stopping(_ inWork: Int?) {
        guard phase == .running else { return }
        phase = .stopping
        say(.info, "\(subject.kind) stopping", inWork.map { ["in-work": "\($0)"] } ?? [:])
    }

    private mutating func stopped(_ reason: ExitReason) {
        guard phase == .running || phase == .stopping else { return }
        phase = .stopped
        up = 0
        switch reason {
        case .normal, .shutdown(nil): say(.info, "\(subject.kind) stopped")
        case .shutdown, .killed, .crashed, .noProcess:
            say(.error, "\(subject.kind) stopped", ["reason": "\(reason)"])
        }
    }

    // MARK: Connections

    private mutating func failed(
        _ number: Int,
        _ place: Logger.Metadata,
        _ failure: Failure,
        _ delay: Duration?,
        at now: Instant
    ) {
        beginUnlessStopping(at: now)
        var outage = outage ?? Outage(since: now)
        let attempts = outage.attempts[number, default: 0] + 1
        outage.attempts[number] = attempts
        let passing = failure.mayPass ? outage.passing[number, default: 0] + 1 : 0
        outage.passing[number] = passing
        let isNews = passing == 0 || passing > Self.maximumPassing
        var metadata = place
        metadata["reason"] = "\(failure.reason)"
        metadata["attempt"] = "\(attempts)"
        if let delay { metadata["retry-in"] = "\(delay.text)" }
        if up > 0 { metadata["connections"] = "\(up) of \(subject.connections)" }
        let key = (place.map { "\($0.key) \($0.value)" }.sorted() + [failure.reason]).joined(separator: " ")
        let isNew = isNews && outage.toldReasons.count < Self.maximumReasons && outage.toldReasons.insert(key).inserted
        let isDue = outage.lastLine.map { $0.duration(to: now) >= Self.interval } ?? true
        let isTold = phase == .running && isNews && (isNew || isDue)
        if isTold {
            outage.isTold = true
            outage.lastLine = now
            if up > 0, let loss = outage.loss { metadata["lost"] = "\(loss.reason)" }
        }
        self.outage = outage
        say(
            isTold ? (failure.isRefusal ? .error : .warning) : .debug,
            "\(subject.kind) cannot \(failure.what)",
            metadata
        )
    }

    private mutating func cameUp(_ number: Int?, _ place: Logger.Metadata, at now: Instant) {
        beginUnlessStopping(at: now)
        up += 1
        guard phase == .running else { return }
        var metadata = place
        if let outage {
            metadata["after"] = "\(outage.since.duration(to: now).text)"
            if subject.opensConnections, let number {
                metadata["attempts"] = "\(outage.attempts[number, default: 0] + 1)"
            }
        }
        if up == 1 {
            outage = nil
            say(.info, "\(subject.kind) \(subject.working)" + (wasUp ? " again" : ""), metadata)
            wasUp = true
            return
        }
        guard up >= subject.connections, let outage else {
            return say(.debug, "\(subject.kind) has another connection", metadata)
        }
        self.outage = nil
        if outage.isTold {
            say(.info, "\(subject.kind) has all connections again", metadata)
        } else if let loss = outage.loss {
            metadata["reason"] = "\(loss.reason)"
            // One line for the loss as well: it was not logged, because it caused no harm.
            say(.info, "\(subject.kind) has lost \(loss.one) and has it again", metadata)
        }
    }

    private mutating func wentDown(_ loss: Loss, at now: Instant) {
        guard up > 0 else { return }
        up -= 1
        guard phase == .running else { return }
        if outage == nil { outage = Outage(since: now, loss: loss) }
        guard up == 0 else {
            let left: Logger.Metadata = ["reason": "\(loss.reason)", "left": "\(up) of \(subject.connections)"]
            return say(.debug, "\(subject.kind) has lost \(loss.one)", left)
        }
        outage?.isTold = true
        blockedSince = nil
        say(loss.isOrderly ? .info : .warning, "\(subject.kind) has lost \(loss.all)", ["reason": "\(loss.reason)"])
    }

    private mutating func resized(_ count: Int, _ lost: Bool) {
        subject.connections = count
        if lost, up > 0 { up -= 1 }
        if up > 0, up >= count { outage = nil }
    }

    private mutating func blocked(_ reason: String?, at now: Instant) {
        switch (reason, blockedSince) {
        case (let reason?, nil):
            blockedSince = now
            say(.warning, "\(subject.kind) blocked: the broker accepts no messages", ["reason": "\(reason)"])
        case (nil, let since?):
            blockedSince = nil
            let after = since.duration(to: now).text
            say(.info, "\(subject.kind) not blocked any more: the broker accepts messages", ["after": "\(after)"])
        case (.some, .some), (nil, nil): return
        }
    }

    private mutating func say(_ level: Logger.Level, _ message: String, _ metadata: Logger.Metadata = [:]) {
        var metadata = metadata
        metadata[subject.kind] = "\(subject.name)"
        lines.append(Line(level: level, message: message, metadata: metadata))
    }
}

extension AMQPError {
    /// Whether the broker or the client gives the same answer until somebody changes something: credentials, the virtual host,
    /// certificates, settings.
    var isRefusal: Bool {
        switch cause {
        case .authenticationFailed, .virtualHostRefused, .invalidEndpoint, .invalidArgument, .tooFewChannels: true
        case .tlsFailed(_, let failure): failure.isRefusal
        case .topologyRefused: true
        case .channelClosedByBroker(let code, _): code == 403 || code == 406
        case .connectFailed, .handshakeFailed, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded,
            .connectionLost, .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .channelClosed,
            .channelLost, .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded, .tooManyChannels,
            .unencodable, .messageTooLarge, .propertiesRefused, .confirmsNotSelected, .returned, .nacked, .refused,
            .notSent, .unconfirmed:
            false
        }
    }

    /// Whether the same declaration may succeed a moment later: 541 is also the answer to one of two processes that create a queue at the
    /// same moment, and of a cluster during an election.
    var mayPass: Bool {
        if case .topologyRefused(_, 541, _) = cause { return true }
        return false
    }

    /// Whether it was intended: a broker that is stopped or restarted says so (320), and this side closes connections that it does not
    /// need.
    var isOrderly: Bool {
        switch cause {
        case .connectionClosedByBroker(let code, _): code == 320
        case .connectionClosed, .channelClosed, .cancelled: true
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost,
            .heartbeatTimeout, .channelClosedByBroker, .channelLost, .topologyRefused, .protocolViolation, .timedOut,
            .blocked, .overloaded, .tooManyChannels, .invalidArgument, .unencodable, .messageTooLarge,
            .propertiesRefused, .confirmsNotSelected, .returned, .nacked, .refused, .notSent, .unconfirmed:
            false
        }
    }

    /// Whether a connection ended with this error.
    var isEndOfConnection: Bool {
        switch cause {
        case .connectionLost, .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .protocolViolation,
            .topologyRefused:
            true
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .channelClosedByBroker,
            .channelClosed, .channelLost, .timedOut, .cancelled, .blocked, .overloaded, .tooManyChannels,
            .invalidArgument, .unencodable, .messageTooLarge, .propertiesRefused, .confirmsNotSelected, .returned,
            .nacked, .refused, .notSent, .unconfirmed:
            false
        }
    }

}

extension TLSFailure {
    /// Whether waiting cannot resolve it.
    fileprivate var isRefusal: Bool {
        switch self {
        case .unreadableFile, .noCertificate, .unusableKey, .keyDoesNotFitCertificate, .invalidServerName,
            .invalidSettings,
            .wrongHost, .expired, .notYetValid, .unknownAuthority, .clientCertificateMissing, .clientCertificateRefused,
            .notTLS, .nothingInCommon:
            true
        case .endedInHandshake, .endedAfterHandshake, .timedOut, .handshakeFailed: false
        }
    }
}

/// An error of another module that says whether the broker refused a request.
package protocol BrokerRefusal: Error {
    var isRefusal: Bool { get }
    /// Whether the same may succeed a moment later.
    var mayPass: Bool { get }
}

import NIOCore
import RPCWire

/// What a receiver remembers about requests that may be redelivered: the answers because of which the broker closed a channel or
/// connection, how often a handler has failed, and when a caller gives up.
///
/// A classic queue only says that a message has been delivered before. This record bounds the effect of such a request nevertheless, as
/// long as the process lives.
///
/// The broker does not answer a reply. It can only close what the reply was sent on: the channel with 403 or 406, or the connection with
/// 541, when the reply is for `amq.rabbitmq.reply-to` of a node that is gone. The acknowledgement after the reply is void then, and the
/// broker redelivers the request. The same answer would close the next channel, forever.
///
/// The number of answers on a channel that the broker has not read is at most the number of its unacknowledged requests, that is, its
/// prefetch. So that many of the last answers of each channel are kept. A redelivered request that is among them is *suspect*: its answer
/// is sent on a separate connection, alone and confirmed, where it affects nothing else and a refusal can only concern this answer.
///
/// ```
/// answered ──▶ kept ── the channel was refused something ──▶ suspect ── delivered again ──▶ its answer is sent alone
///               │                                                                             │          │
///               │ as many later answers                                            confirmed ─┘          └─ refused: given up,
///               ▼                                                                  forgotten                 whenever it comes
///           forgotten
/// ```
///
/// A lost connection does not tell why it was lost: its answers become suspect when that has happened ``lossLimit`` times to the same
/// request.
struct DeliveryHistory<ChannelID: Hashable & Sendable>: Sendable {
    /// What identifies a delivered request when it is redelivered.
    struct Key: Hashable, Sendable {
        var messageID: String?
        var correlationID: String?
        /// `nil` for a cast.
        var replyTo: String?
        var procedure: String?
        var bodySize = 0
        /// A hash of the beginning of the body.
        var bodyHash = 0

        /// Whether its answer goes to `amq.rabbitmq.reply-to`.
        var isAnsweredDirectly: Bool { replyTo?.hasPrefix(DeliveryHistory.directPrefix) ?? false }
    }

    /// How a channel ended.
    enum ChannelEnd: Sendable {
        /// By this side, with a handshake: the broker has read everything.
        case clean
        /// The broker closed it, or its connection, because of something that was sent on it.
        case refused
        /// It is unknown what the broker has read.
        case lost
    }

    /// What to do with a redelivered request.
    enum Arrival: Sendable {
        /// Handle it like any other.
        case run
        /// Its handler has run: send this answer alone.
        case answerAlone(ReplyMessage)
        /// Its handler has run, and its answer, of this size, was too large to be kept. Run it again and send the answer alone.
        case runAndAnswerAlone(size: Int)
        /// Its answer was refused, with this text.
        case giveUp(String)
    }

    private struct Answer: Sendable {
        let key: Key
        /// `nil`: too large to be kept.
        let reply: ReplyMessage?
        let size: Int
    }

    /// The last answers of one channel, in a ring buffer.
    private struct Ring: Sendable {
        var answers: [Answer] = []
        var next = 0
        var bytes = 0
    }

    private struct Mark: Sendable {
        enum Standing: Sendable {
            case unknown
            case suspect(Answer)
            case refused(String)
        }

        var standing = Standing.unknown
        /// How often its channel was lost after the answer, or the answer could not be sent alone.
        var losses = 0
        /// How often its handler failed and it was requeued.
        var requeues = 0
        /// When its caller gives up, counted from its first delivery here.
        var deadline: CompactInstant?
        var serial: UInt64 = 0
    }

    /// The number of answers kept per channel: at least its prefetch.
    private let capacity: Int
    private var rings: [ChannelID: Ring] = [:]
    private var marks: [Key: Mark] = [:]
    /// Oldest first. Contains leftovers of updated entries.
    private var order: [(key: Key, serial: UInt64)] = []
    private var lastSerial: UInt64 = 0
    private var directRefusedUntil: CompactInstant?

    /// The maximum number of requests remembered besides the answers of open channels.
    static var markLimit: Int { 4096 }
    /// The maximum number of bytes of answers kept per channel. Larger answers are not kept.
    static var byteLimit: Int { 1 << 20 }
    /// How often the connection may be lost after an answer to the same request before that is attributed to the answer.
    static var lossLimit: Int { 3 }
    /// How long answers to `amq.rabbitmq.reply-to` are sent alone after one was refused.
    static var directMemory: Duration { .seconds(30) }
    /// The prefix of such names, as the broker writes them into a request.
    static var directPrefix: String { "amq.rabbitmq.reply-to." }

    /// - Parameter capacity: The largest prefetch of a channel.
    init(capacity: Int) {
        self.capacity = max(1, capacity)
    }

    /// The number of remembered requests.
    var count: Int { marks.count + rings.values.reduce(0) { $0 + $1.answers.count } }

    /// Called before an answer is sent. Returns whether it has to be sent alone, in which case it is not remembered.
    mutating func answering(_ key: Key, _ reply: ReplyMessage, on channel: ChannelID, at now: CompactInstant) -> Bool {
        if let until = directRefusedUntil, key.isAnsweredDirectly {
            if now < until { return true }
            directRefusedUntil = nil
        }
        let size = reply.body.readableBytes
        var ring = rings.removeValue(forKey: channel) ?? Ring()
        if ring.answers.count == capacity, let dropped = ring.answers[ring.next].reply {
            ring.bytes -= dropped.body.readableBytes
        }
        let isKept = ring.bytes + size <= Self.byteLimit
        if isKept { ring.bytes += size }
        let answer = Answer(key: key, reply: isKept ? reply : nil, size: size)
        if ring.answers.count < capacity {
            ring.answers.append(answer)
        } else {
            ring.answers[ring.next] = answer
            ring.next = (ring.next + 1) % capacity
        }
        rings[channel] = ring
        return false
    }

    /// A channel has ended.
    mutating func closed(_ channel: ChannelID, _ end: ChannelEnd, at now: CompactInstant) {
        guard let ring = rings.removeValue(forKey: channel) else { return }
        switch end {
        case .clean: return
        case .lost: for answer in ring.answers { lost(answer) }
        case .refused:
            for answer in ring.answers { suspect(answer, at: now) }
        }
    }

    private mutating func lost(_ answer: Answer) {
        change(answer.key) { mark in
            mark.losses += 1
            if case .unknown = mark.standing, mark.losses >= Self.lossLimit { mark.standing = .suspect(answer) }
        }
    }

    private mutating func suspect(_ answer: Answer, at now: CompactInstant) {
        change(answer.key) { mark in
            if case .refused = mark.standing { return }
            mark.standing = .suspect(answer)
        }
        avoid(answer.key, at: now)
    }

    /// What is refused to one client of a broker's node is probably refused to its other clients.
    private mutating func avoid(_ key: Key, at now: CompactInstant) {
        if key.isAnsweredDirectly { directRefusedUntil = now + Self.directMemory }
    }

    /// A handler failed, and its request is requeued. Returns how often that has happened.
    mutating func requeued(_ key: Key) -> Int {
        change(key) { mark in
            mark.requeues += 1
            return mark.requeues
        }
    }

    /// The channel of an unanswered request has ended: the broker redelivers the request, and its time limit starts again then.
    mutating func left(_ key: Key, deadline: CompactInstant) {
        change(key) { $0.deadline = min($0.deadline ?? deadline, deadline) }
    }

    /// Whether anything is remembered about requests besides their answers.
    var hasMarks: Bool { !marks.isEmpty }

    /// Whether anything is remembered about a request besides its answer.
    func hasMark(of key: Key) -> Bool { marks[key] != nil }

    /// How often a handler has failed with a redelivered request, and when its caller gives up, as far as known.
    func record(of key: Key) -> (requeues: Int, deadline: CompactInstant?) {
        marks[key].map { ($0.requeues, $0.deadline) } ?? (0, nil)
    }

    /// What to do with a redelivered request, with regard to its answer.
    func arrival(of key: Key) -> Arrival {
        switch marks[key]?.standing {
        case .refused(let text): return .giveUp(text)
        case .suspect(let answer): return arrival(of: answer)
        case .unknown, nil: break
        }
        // A channel that this side considers open: the broker has closed it, or it would not redeliver this.
        for ring in rings.values {
            if let answer = ring.answers.first(where: { $0.key == key }) { return arrival(of: answer) }
        }
        return .run
    }

    private func arrival(of answer: Answer) -> Arrival {
        answer.reply.map { .answerAlone($0) } ?? .runAndAnswerAlone(size: answer.size)
    }

    /// The broker has accepted an answer that was sent alone.
    mutating func delivered(_ key: Key) {
        marks[key] = nil
    }

    /// The broker refused an answer that was sent alone.
    mutating func refused(_ key: Key, _ text: String, at now: CompactInstant) {
        change(key) { $0.standing = .refused(text) }
        avoid(key, at: now)
    }

    /// An answer could not be sent alone, for an unknown reason. Returns whether that has reached the limit: then it counts as refused.
    mutating func failed(_ key: Key, _ reply: ReplyMessage, _ text: String) -> Bool {
        let size = reply.body.readableBytes
        let answer = Answer(key: key, reply: size <= Self.byteLimit ? reply : nil, size: size)
        return change(key) { mark in
            mark.losses += 1
            let isOver = mark.losses >= Self.lossLimit
            mark.standing = isOver ? .refused(text) : .suspect(answer)
            return isOver
        }
    }

    private mutating func change<Result>(_ key: Key, _ body: (inout Mark) -> Result) -> Result {
        lastSerial += 1
        var mark = marks[key] ?? Mark()
        mark.serial = lastSerial
        let result = body(&mark)
        marks[key] = mark
        order.append((key, lastSerial))
        if order.count > 2 * Self.markLimit { dropOldest() }
        return result
    }

    private mutating func dropOldest() {
        order.removeAll { marks[$0.key]?.serial != $0.serial }
        let surplus = max(0, order.count - Self.markLimit)
        for oldest in order.prefix(surplus) { marks[oldest.key] = nil }
        order.removeFirst(surplus)
    }
}

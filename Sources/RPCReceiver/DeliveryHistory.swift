import NIOCore
import RPCWire

/// What a receiver remembers of requests that may be delivered again: which answer the broker closed a channel or a connection for, how
/// often a handler has failed, and when a caller gives up.
///
/// A classic queue says no more of a message than that it was delivered before. What is remembered here bounds what a request can do
/// all the same, as long as this process lives.
///
/// The broker does not answer a reply. It can only close what the reply came on: with 403 or 406 the channel, with 541 the connection, when
/// the reply is for `amq.rabbitmq.reply-to` of a node that is gone. The acknowledgement behind the reply is void then, and the broker
/// delivers the request again. Answered in the same way it would close the next channel, for ever.
///
/// A channel has no more answers that the broker has not read than it has requests that are not acknowledged: its prefetch. So the
/// last answers of each channel are kept, as many as that. A request that is delivered again and is among them is *suspect*: its answer
/// is sent on a connection of its own, alone and confirmed, where it disturbs nobody and where a refusal can only mean this answer.
///
/// ```
/// answered ──▶ kept ── the channel was refused something ──▶ suspect ── delivered again ──▶ its answer is sent alone
///               │                                                                             │          │
///               │ as many later answers                                            confirmed ─┘          └─ refused: given up,
///               ▼                                                                  forgotten                 whenever it comes
///           forgotten
/// ```
///
/// A connection that is lost says nothing of what it was lost for: its answers become suspect when that has happened
/// ``lossLimit`` times to the same request.
struct DeliveryHistory<ChannelID: Hashable & Sendable>: Sendable {
    /// What a delivered request is recognised by when it is delivered again.
    struct Key: Hashable, Sendable {
        var messageID: String?
        var correlationID: String?
        /// `nil` for a cast.
        var replyTo: String?
        var procedure: String?
        var bodySize = 0
        /// A hash of what the body begins with.
        var bodyHash = 0

        /// Whether its answer goes to `amq.rabbitmq.reply-to`.
        var isAnsweredDirectly: Bool { replyTo?.hasPrefix(DeliveryHistory.directPrefix) ?? false }
    }

    /// How a channel ended.
    enum ChannelEnd: Sendable {
        /// By this side and with a handshake: the broker has read everything.
        case clean
        /// The broker closed it, or its connection, for something that was sent on it.
        case refused
        /// What the broker has read is not known.
        case lost
    }

    /// What to do with a request that is delivered again.
    enum Arrival: Sendable {
        /// As with any other.
        case run
        /// Its handler has run: send this answer alone.
        case answerAlone(ReplyMessage)
        /// Its handler has run, and its answer, of this size, was too large to be kept. Run it again and send the answer alone.
        case runAndAnswerAlone(size: Int)
        /// Its answer was refused, with these words.
        case giveUp(String)
    }

    private struct Answer: Sendable {
        let key: Key
        /// `nil`: too large to be kept.
        let reply: ReplyMessage?
        let size: Int
    }

    /// The last answers of one channel: a ring.
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
        /// How often its channel was lost behind the answer, or the answer could not be sent alone.
        var losses = 0
        /// How often its handler failed and it went back to its queue.
        var requeues = 0
        /// When its caller gives up, counted from its first delivery here.
        var deadline: CompactInstant?
        var serial: UInt64 = 0
    }

    /// How many answers of one channel are kept: no fewer than its prefetch.
    private let capacity: Int
    private var rings: [ChannelID: Ring] = [:]
    private var marks: [Key: Mark] = [:]
    /// Oldest first. Has leftovers of what was marked anew.
    private var order: [(key: Key, serial: UInt64)] = []
    private var lastSerial: UInt64 = 0
    private var directRefusedUntil: CompactInstant?

    /// How many requests are remembered beyond the answers of open channels.
    static var markLimit: Int { 4096 }
    /// How many bytes of answers are kept for each channel. Larger ones are not.
    static var byteLimit: Int { 1 << 20 }
    /// How often the connection may be lost behind an answer to the same request before that is taken for its fault.
    static var lossLimit: Int { 3 }
    /// How long answers to `amq.rabbitmq.reply-to` go out alone after one was refused.
    static var directMemory: Duration { .seconds(30) }
    /// What names of that kind begin with, as the broker writes them into a request.
    static var directPrefix: String { "amq.rabbitmq.reply-to." }

    /// - Parameter capacity: the largest prefetch of a channel.
    init(capacity: Int) {
        self.capacity = max(1, capacity)
    }

    /// How many requests it remembers.
    var count: Int { marks.count + rings.values.reduce(0) { $0 + $1.answers.count } }

    /// An answer is about to be sent. Returns whether it has to be sent alone, in which case it is not remembered.
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

    /// A channel is over.
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

    /// What is refused to one client of a broker's node is likely to be refused to its others.
    private mutating func avoid(_ key: Key, at now: CompactInstant) {
        if key.isAnsweredDirectly { directRefusedUntil = now + Self.directMemory }
    }

    /// A handler failed, and its request goes back to its queue. Returns how often that has happened.
    mutating func requeued(_ key: Key) -> Int {
        change(key) { mark in
            mark.requeues += 1
            return mark.requeues
        }
    }

    /// The channel of a request that was not answered is over: the broker delivers it again, and counts its time anew then.
    mutating func left(_ key: Key, deadline: CompactInstant) {
        change(key) { $0.deadline = min($0.deadline ?? deadline, deadline) }
    }

    /// How often a handler failed with a request that was delivered again, and when its caller gives up, as far as is known here.
    func record(of key: Key) -> (requeues: Int, deadline: CompactInstant?) {
        marks[key].map { ($0.requeues, $0.deadline) } ?? (0, nil)
    }

    /// What to do with a request that was delivered again, with regard to its answer.
    func arrival(of key: Key) -> Arrival {
        switch marks[key]?.standing {
        case .refused(let text): return .giveUp(text)
        case .suspect(let answer): return arrival(of: answer)
        case .unknown, nil: break
        }
        // A channel that is open as far as this side knows: the broker has let go of it, or it would not deliver this again.
        for ring in rings.values {
            if let answer = ring.answers.first(where: { $0.key == key }) { return arrival(of: answer) }
        }
        return .run
    }

    private func arrival(of answer: Answer) -> Arrival {
        answer.reply.map { .answerAlone($0) } ?? .runAndAnswerAlone(size: answer.size)
    }

    /// The broker has taken an answer that was sent alone.
    mutating func delivered(_ key: Key) {
        marks[key] = nil
    }

    /// The broker refused an answer that was sent alone.
    mutating func refused(_ key: Key, _ text: String, at now: CompactInstant) {
        change(key) { $0.standing = .refused(text) }
        avoid(key, at: now)
    }

    /// An answer could not be sent alone, and nobody knows why. Returns whether that has happened as often as it may: then it counts as
    /// refused.
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

import NIOCore
import RPCWire
import Testing

@testable import RPCReceiver

@Suite("Finding the answer for which the broker closes a channel")
struct DeliveryHistoryTests {
    private typealias History = DeliveryHistory<Int>

    private let now = CompactInstant.now

    private func key(_ id: String, replyTo: String = "replies") -> History.Key {
        History.Key(messageID: id, correlationID: id, replyTo: replyTo)
    }

    private func reply(_ id: String, bytes: Int = 10) -> ReplyMessage {
        ReplyMessage(
            result: RPCReply(body: ByteBuffer(repeating: 1, count: bytes)),
            correlationID: id
        )
    }

    private func answering(_ history: inout History, _ id: String, on channel: Int = 1, bytes: Int = 10) {
        let isAlone = history.answering(key(id), reply(id, bytes: bytes), on: channel, at: now)
        #expect(!isAlone)
    }

    private func outcome(_ history: History, _ id: String) -> String {
        switch history.arrival(of: key(id)) {
        case .run: "run"
        case .answerAlone(let reply): "alone \(reply.correlationID ?? "")"
        case .runAndAnswerAlone(let size): "run, \(size)"
        case .giveUp(let text): "give up: \(text)"
        }
    }

    @Test("what was answered on a channel that was refused something is answered alone when it comes again")
    func suspects() {
        var history = History(capacity: 10)
        answering(&history, "a")
        answering(&history, "b", on: 2)
        history.closed(1, .refused, at: now)
        history.closed(2, .clean, at: now)
        #expect(outcome(history, "a") == "alone a")
        #expect(outcome(history, "b") == "run")
        #expect(outcome(history, "c") == "run")
    }

    @Test("one that comes again while its channel is open here is suspect too: the broker has closed it already")
    func openChannel() {
        var history = History(capacity: 10)
        answering(&history, "a")
        #expect(outcome(history, "a") == "alone a")
    }

    @Test(
        "one whose answer was refused alone is given up whenever it comes, and one whose answer was taken is forgotten"
    )
    func verdicts() {
        var history = History(capacity: 10)
        for id in ["a", "b"] { answering(&history, id) }
        history.closed(1, .refused, at: now)
        history.refused(key("a"), "541", at: now)
        history.delivered(key("b"))
        #expect(outcome(history, "a") == "give up: 541")
        #expect(outcome(history, "b") == "run")
        // Its acknowledgement may get lost as well.
        answering(&history, "a", on: 3)
        history.closed(3, .refused, at: now)
        #expect(outcome(history, "a") == "give up: 541")
    }

    @Test("a connection that is lost makes its answers suspect when it was lost for the third time behind the same")
    func losses() {
        var history = History(capacity: 10)
        for channel in 1...3 {
            #expect(outcome(history, "a") == "run")
            answering(&history, "a", on: channel)
            answering(&history, "other \(channel)", on: channel)
            history.closed(channel, .lost, at: now)
        }
        #expect(outcome(history, "a") == "alone a")
        #expect(outcome(history, "other 1") == "run")
    }

    @Test("an answer that cannot be sent alone either is tried three times")
    func failures() {
        var history = History(capacity: 10)
        for isLast in [false, false, true] {
            let isOver = history.failed(key("a"), reply("a"), "timeout")
            #expect(isOver == isLast)
            if !isLast { #expect(outcome(history, "a") == "alone a") }
        }
        #expect(outcome(history, "a") == "give up: timeout")
    }

    @Test("after one direct reply was refused all of them go out alone for a while, and nothing else does")
    func directReplies() {
        var history = History(capacity: 10)
        let direct = key("a", replyTo: "amq.rabbitmq.reply-to.g1h.x")
        let first = history.answering(direct, reply("a"), on: 1, at: now)
        #expect(!first)
        history.closed(1, .refused, at: now)
        let other = key("b", replyTo: "amq.rabbitmq.reply-to.g1h.y")
        let second = history.answering(other, reply("b"), on: 2, at: now)
        #expect(second)
        answering(&history, "c", on: 2)
        let later = history.answering(other, reply("b"), on: 2, at: now + History.directMemory)
        #expect(!later)
    }

    @Test("it remembers as many answers of a channel as the broker may not have read, and large ones by their size")
    func bounds() {
        var history = History(capacity: 3)
        for id in ["a", "b", "c", "d"] { answering(&history, id) }
        answering(&history, "large", bytes: History.byteLimit)
        #expect(history.count == 3)
        history.closed(1, .refused, at: now)
        #expect(["a", "b", "c", "d"].map { outcome(history, $0) } == ["run", "run", "alone c", "alone d"])
        #expect(outcome(history, "large") == "run, \(History.byteLimit)")
    }

    @Test("what hostile requests make it remember is bounded")
    func marks() {
        var history = History(capacity: 1)
        for n in 0..<(4 * History.markLimit) { history.refused(key("\(n)"), "541", at: now) }
        #expect(history.count <= 2 * History.markLimit)
        #expect(outcome(history, "\(4 * History.markLimit - 1)") == "give up: 541")
        #expect(outcome(history, "0") == "run")
    }
}

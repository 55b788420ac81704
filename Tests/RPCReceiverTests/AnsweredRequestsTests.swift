import Testing

@testable import RPCReceiver

@Suite("Recognising repetitions")
struct AnsweredRequestsTests {
    typealias Answers = AnsweredRequests<String>

    let start = ContinuousClock.now

    func answers(entries: Int = 10, bytes: Int = 1_000_000, age: Duration = .seconds(60)) -> Answers {
        Answers(RPCDeduplication(maximumEntries: entries, maximumBytes: bytes, maximumAge: age))
    }

    func id(_ message: String, _ procedure: String = "pay") -> Answers.ID {
        Answers.ID(procedure: procedure, messageID: message)
    }

    func say(_ arrival: Answers.Arrival) -> String {
        switch arrival {
        case .run: "run"
        case .follow: "follow"
        case .answered(let reply): reply
        }
    }

    /// Runs a request and answers it.
    func answer(_ answers: inout Answers, _ message: String, size: Int = 10, after: Duration = .zero) {
        answers.begin(id(message), 1)
        _ = answers.answered(id(message), 1, "reply to \(message)", size: size, at: start + after)
    }

    @Test("a request that was answered gets the same answer; another procedure's of the same id does not")
    func replays() {
        var answers = answers()
        #expect(say(answers.arrival(of: id("1"), at: start)) == "run")
        answer(&answers, "1")
        #expect(say(answers.arrival(of: id("1"), at: start)) == "reply to 1")
        #expect(say(answers.arrival(of: id("1", "refund"), at: start)) == "run")
        #expect(say(answers.arrival(of: id("2"), at: start)) == "run")
    }

    @Test("repetitions that come while the first is worked on get its answer")
    func follow() {
        var answers = answers()
        answers.begin(id("1"), 1)
        for key: UInt64 in 2...3 {
            #expect(say(answers.arrival(of: id("1"), at: start)) == "follow")
            answers.begin(id("1"), key)
        }
        #expect(answers.left(id("1"), 2) == nil, "one that does not wait any longer")
        #expect(Array(answers.answered(id("1"), 1, "done", size: 1, at: start)) == [3])
        #expect(answers.answered(id("1"), 1, "again", size: 1, at: start).isEmpty)
        #expect(say(answers.arrival(of: id("1"), at: start)) == "done")
    }

    @Test("when the first leaves without an answer the next is worked on, and when nobody follows the id is forgotten")
    func promotes() {
        var answers = answers()
        for key: UInt64 in 1...3 { answers.begin(id("1"), key) }
        #expect(answers.left(id("1"), 1) == 2)
        #expect(answers.answered(id("1"), 1, "too late", size: 1, at: start).isEmpty)
        #expect(answers.left(id("1"), 3) == nil)
        #expect(answers.left(id("1"), 2) == nil)
        #expect(answers.count == 0)
        #expect(say(answers.arrival(of: id("1"), at: start)) == "run")
    }

    @Test("it is bounded in entries, oldest first")
    func entries() {
        var answers = answers(entries: 2)
        for message in ["1", "2", "3"] { answer(&answers, message) }
        #expect(answers.count == 2)
        #expect(say(answers.arrival(of: id("1"), at: start)) == "run")
        #expect(say(answers.arrival(of: id("3"), at: start)) == "reply to 3")
    }

    @Test("it is bounded in bytes, and stores nothing that is larger than all of them")
    func bytes() {
        var answers = answers(bytes: 2000)
        answer(&answers, "1", size: 1000)
        answer(&answers, "2", size: 1000)
        #expect(answers.bytes <= 2000)
        #expect(say(answers.arrival(of: id("1"), at: start)) == "run")
        #expect(say(answers.arrival(of: id("2"), at: start)) == "reply to 2")
        answer(&answers, "3", size: 2001)
        #expect(say(answers.arrival(of: id("3"), at: start)) == "run")
        #expect(say(answers.arrival(of: id("2"), at: start)) == "reply to 2")
        answer(&answers, "4", size: 1700)
        #expect(answers.count == 1)
    }

    @Test("what is too old is forgotten")
    func age() {
        var answers = answers(age: .seconds(10))
        answer(&answers, "1")
        answer(&answers, "2", after: .seconds(5))
        #expect(say(answers.arrival(of: id("1"), at: start + .seconds(9))) == "reply to 1")
        #expect(say(answers.arrival(of: id("1"), at: start + .seconds(10))) == "run")
        #expect(say(answers.arrival(of: id("2"), at: start + .seconds(10))) == "reply to 2")
        #expect(say(answers.arrival(of: id("2"), at: start + .seconds(15))) == "run")
        #expect(answers.bytes == 0)
    }

    @Test("without room for an entry nothing is stored, and followers are answered all the same")
    func nothing() {
        var answers = answers(entries: 0)
        answers.begin(id("1"), 1)
        answers.begin(id("1"), 2)
        #expect(Array(answers.answered(id("1"), 1, "done", size: 1, at: start)) == [2])
        #expect(answers.count == 0)
    }
}

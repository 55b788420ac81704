import AMQPPool
import Testing

@testable import RPCWire

@Suite("The broker's limit")
struct BrokerMessageLimitTests {
    @Test(
        "is read from what the broker says of a message that is too large",
        arguments: [
            ("PRECONDITION_FAILED - message size 2000 is larger than configured max size 1000", 1000),
            ("PRECONDITION_FAILED - message size 134217729 is larger than max size 134217728", 134_217_728),
            ("PRECONDITION_FAILED - unknown delivery tag 20", nil),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'a' in vhost '/': received 2000, current 1000",
                nil
            ),
            ("message size x", nil), ("message size 1000 max size 2000", nil), ("", nil),
        ]
    )
    func read(_ text: String, _ limit: Int?) {
        let learned = BrokerMessageLimit()
        #expect(learned.learn(from: .channelClosedByBroker(code: 406, text: text)) == limit)
        #expect(learned.bytes == limit ?? .max)
    }

    @Test("is never raised, and learned from nothing else")
    func lowest() {
        let learned = BrokerMessageLimit()
        let text = { (limit: Int) in "message size 5000 is larger than max size \(limit)" }
        learned.learn(from: .unconfirmed(.channelClosedByBroker(code: 406, text: text(1000))))
        learned.learn(from: .channelClosedByBroker(code: 406, text: text(2000)))
        learned.learn(from: .channelClosedByBroker(code: 404, text: text(10)))
        learned.learn(from: .connectionLost(reason: text(10)))
        #expect(learned.bytes == 1000)
    }
}

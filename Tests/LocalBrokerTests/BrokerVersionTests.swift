import BrokerSupport
import LocalBroker
import Testing

@Suite("The version of a broker")
struct BrokerVersionTests {
    @Test(
        "is read from what the program tells",
        arguments: [
            ("27", BrokerVersion(27)), ("4.3", BrokerVersion(4, 3)), ("4.0.5", BrokerVersion(4, 0, 5)),
            ("4.3.0-rc.1", BrokerVersion(4, 3)), ("3.10.8.1", BrokerVersion(3, 10, 8)), ("26-rc1", BrokerVersion(26)),
            ("", nil), ("next", nil), (".5", nil), ("-1", nil), ("99999999999999999999", nil),
        ] as [(String, BrokerVersion?)]
    )
    func read(text: String, expected: BrokerVersion?) {
        #expect(BrokerVersion(text) == expected)
    }

    @Test("is ordered by its numbers, not by its text")
    func order() {
        #expect(BrokerVersion(3, 8, 9) < BrokerVersion(3, 10, 8))
        #expect(BrokerVersion(4) < BrokerVersion(4, 0, 1))
        #expect(BrokerVersion(4, 0, 5) >= BrokerVersion(4, 0))
        #expect("\(BrokerVersion(4, 3))" == "4.3.0")
    }

    @Test("and of its Erlang is told by each broker")
    func told() async throws {
        try await TestBroker.withVirtualHost { broker, _, _ in
            #expect(await broker.version >= BrokerVersion(3, 8))
            #expect(await broker.erlangVersion >= BrokerVersion(23))
            let shared = try await TestBroker.version()
            #expect(await broker.version == shared)
        }
    }
}

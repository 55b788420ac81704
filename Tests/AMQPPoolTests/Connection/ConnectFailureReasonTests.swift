import BrokerSupport
import NIOCore
import NIOPosix
import Testing

@testable import AMQPPool

@Suite("Why a connection could not be opened, in words")
struct ConnectFailureReasonTests {
    @Test(
        "The system's error is told without its number and the system call",
        arguments: [
            (111, "connection refused"), (113, "no route to host"), (101, "network is unreachable"),
            (110, "nobody answered in time"),
        ]
    )
    func systemErrors(_ code: CInt, _ text: String) {
        #if os(Linux)
        #expect(connectFailureReason(IOError(errnoCode: code, reason: "connection reset (error set)")) == text)
        #endif
    }

    @Test("A port on which nobody listens: connection refused, and which")
    func refused() async throws {
        let closed = try ClosedPort()
        let endpoint = Endpoint(host: "127.0.0.1", port: closed.number, password: "s3cret")
        let error = await failure { () async throws(AMQPError) in try await AMQPConnection.open(endpoint) }
        #expect("\(try #require(error))" == "cannot connect to amqp://127.0.0.1:\(closed.number): connection refused")
        withExtendedLifetime(closed) {}
    }

    @Test("A name that does not resolve")
    func noSuchName() async throws {
        let error = await failure { () async throws(AMQPError) in
            try await AMQPConnection.open("amqp://no-such-host.invalid")
        }
        #expect(
            "\(try #require(error))" == "cannot connect to amqp://no-such-host.invalid:5672: the name does not resolve"
        )
    }

    @Test("Nobody who answers in time")
    func timeout() {
        #expect(connectFailureReason(ChannelError.connectTimeout(.seconds(5))) == "nobody answered in time")
    }
}

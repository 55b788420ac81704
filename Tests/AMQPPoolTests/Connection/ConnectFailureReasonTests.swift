import BrokerSupport
import Foundation
import NIOCore
import NIOPosix
import TestTurns
import Testing

@testable import AMQPPool

@Suite("Why a connection could not be opened, in words")
struct ConnectFailureReasonTests {
    @Test(
        "The system's error is told without its number and the system call",
        arguments: [
            (111, "connection refused"), (113, "no route to host"), (101, "network is unreachable"),
            (110, "no answer in time"),
        ]
    )
    func systemErrors(_ code: CInt, _ text: String) {
        #if os(Linux)
        #expect(
            AMQPError.connectFailureReason(IOError(errnoCode: code, reason: "connection reset (error set)")) == text
        )
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

    #if os(Linux)
    @Test("Without a file descriptor left an attempt fails with that, and with one the next is as any other", .exitTest)
    func noDescriptors() async throws {
        let port = try ClosedPort()
        await #expect(processExitsWith: .success) { [number = port.number as Int] in
            // What the runtime and NIO open once, they open now.
            let endpoint = Endpoint(host: "127.0.0.1", port: number)
            _ = await failure { () async throws(AMQPError) in try await AMQPConnection.open(endpoint) }
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            let before = limit
            let next = dup(0)
            close(next)
            limit.rlim_cur = rlim_t(next)
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            let none = await failure { () async throws(AMQPError) in try await AMQPConnection.open(endpoint) }
            limit = before
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            let again = await failure { () async throws(AMQPError) in try await AMQPConnection.open(endpoint) }
            guard case .connectFailed(_, let reason) = none, reason.contains("too many open files"),
                case .connectFailed(_, "connection refused") = again
            else {
                print("\(String(describing: none)), then \(String(describing: again))")
                exit(1)
            }
        }
        withExtendedLifetime(port) {}
    }
    #endif

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
        #expect(AMQPError.connectFailureReason(ChannelError.connectTimeout(.seconds(5))) == "no answer in time")
    }
}

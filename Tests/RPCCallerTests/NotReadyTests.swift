import AMQPPool
import Testing

@testable import RPCCaller

@Suite("What a call that could not be sent is told")
struct NotReadyTests {
    /// As the registry throws it.
    private func text(_ errors: AMQPError...) -> String {
        let failures = errors.map { AMQPError.EndpointFailure(endpoint: "ignored", error: $0) }
        return "\(RPCError(notReady: .notSent(.notConnected(failures))))"
    }

    private let endpoint = "amqp://127.0.0.1:1"

    @Test("Connection refused, an unknown name, nobody who answers: who was tried, and why not")
    func connecting() {
        #expect(
            text(.connectFailed(endpoint: endpoint, reason: "connection refused"))
                == "not connected: cannot connect to amqp://127.0.0.1:1: connection refused"
        )
        #expect(
            text(.connectFailed(endpoint: "amqp://nowhere:5672", reason: "the name does not resolve"))
                == "not connected: cannot connect to amqp://nowhere:5672: the name does not resolve"
        )
        #expect(
            text(.connectFailed(endpoint: endpoint, reason: "not answered within 5.0 seconds"))
                == "not connected: cannot connect to amqp://127.0.0.1:1: not answered within 5.0 seconds"
        )
    }

    @Test("Wrong credentials and a missing virtual host: in the broker's words")
    func refusals() {
        #expect(
            text(.authenticationFailed(endpoint: endpoint, text: "ACCESS_REFUSED - Login was refused"))
                == "not connected: amqp://127.0.0.1:1 refused the credentials: ACCESS_REFUSED - Login was refused"
        )
        #expect(
            text(.virtualHostRefused(endpoint: endpoint, virtualHost: "x", code: 530, text: "NOT_ALLOWED - not found"))
                == "not connected: amqp://127.0.0.1:1 refused the virtual host \"x\": 530 NOT_ALLOWED - not found"
        )
    }

    @Test("Several endpoints are all told of; none that has failed yet, too")
    func severalOrNone() {
        let refused = AMQPError.connectFailed(endpoint: endpoint, reason: "connection refused")
        #expect(
            text(refused, refused) == "not connected: cannot connect to amqp://127.0.0.1:1: connection refused; "
                + "cannot connect to amqp://127.0.0.1:1: connection refused"
        )
        #expect(text() == "not connected: the first attempt to connect has not ended")
        let setUpFailure = RPCError(notReady: .notSent(.notConnected([])), setUpFailure: "no exchange")
        #expect("\(setUpFailure)" == "not connected: no exchange")
    }

    @Test("A broker that accepts nothing is another case")
    func blocked() {
        guard case .blocked(why: "low on memory") = RPCError(notReady: .notSent(.blocked(reason: "low on memory")))
        else {
            Issue.record("not .blocked")
            return
        }
    }
}

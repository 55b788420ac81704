import AMQPPool
import RPCCaller
import RPCReceiver
import RPCTesting
import RPCWire
import Testing

/// Calls "front" in process, whose handlers call "back" and let its errors through.
private func callers(
    back: RPCHandlers? = nil,
    passes: Bool = false,
    timeout: Duration = .seconds(30)
) -> RPCCaller {
    let inner = RPCCaller.inProcess(back.map { ["back": $0] } ?? [:]) { $0.timeout = timeout }
    var configuration = RPCReceiverConfiguration(endpoints: [])
    configuration.passesUpstreamFailures = passes
    let front = RPCReceiver(
        service: "front",
        configuration: configuration,
        procedures: RPCHandlers {
            RPCHandler("relay") { (n: Int, _) in try await inner.call("back", "next", n, as: Int.self) }
            RPCHandler("own") { (_: Int, _) -> Int in throw OutOfStock(left: 2) }
        }
    )
    return .inProcess(receivers: [front]) { $0.timeout = .seconds(60) }
}

private struct OutOfStock: RPCFailureConvertible {
    var left: Int
    var rpcFailure: RPCFailure {
        RPCFailure(code: "out_of_stock", message: "only \(left) left", details: ["left": .integer(Int64(left))])
    }
}

@Suite("An error that a handler's own call ended with", .timeLimit(.minutes(5)))
struct SecondHopTests {
    private func failure(_ rpc: RPCCaller, _ procedure: String = "relay") async -> (RPCFailure?, RPCError?) {
        do {
            _ = try await rpc.call("front", procedure, 1, as: Int.self)
            return (nil, nil)
        } catch {
            if case .remote(let failure) = error { return (failure, error) }
            return (nil, error)
        }
    }

    @Test("says that the service further on is not there, and that nothing was processed")
    func unroutable() async {
        let (failure, error) = await failure(callers())
        #expect(failure?.code == .upstreamUnroutable)
        #expect(failure?.requestMayHaveBeenProcessed == false)
        #expect(error?.requestMayHaveBeenProcessed == false)
    }

    @Test("says that the service further on did not answer in time, and may have processed it")
    func timeout() async {
        let back = RPCHandlers {
            RPCHandler("next") { (n: Int, _) in
                try await Task.sleep(for: .seconds(1000))
                return n
            }
        }
        let (failure, error) = await failure(callers(back: back, timeout: .milliseconds(50)))
        #expect(failure?.code == .upstreamTimeout)
        #expect(error?.requestMayHaveBeenProcessed == true)
    }

    @Test("keeps the other service's code and not its text, and what it says of processing")
    func remote() async {
        for (code, mayHave) in [(RPCFailure.Code("secret_business"), true), (.overloaded, false)] {
            let back = RPCHandlers {
                RPCHandler("next") { (_: Int, _) -> Int in throw RPCFailure(code: code, message: "a secret") }
            }
            let (failure, error) = await failure(callers(back: back))
            #expect(failure?.code == .upstreamFailure)
            #expect(failure?.details?.description.contains(code.rawValue) == true)
            #expect("\(failure.map { "\($0) \($0.details ?? .null)" } ?? "")".contains("a secret") == false)
            #expect(error?.requestMayHaveBeenProcessed == mayHave)
        }
    }

    @Test("is handed on as the other service said it, where the receiver is told to")
    func passed() async {
        let said = RPCFailure(code: "out_of_stock", message: "only 2 left", details: ["left": 2])
        let back = RPCHandlers { RPCHandler("next") { (_: Int, _) -> Int in throw said } }
        let (failure, _) = await failure(callers(back: back, passes: true))
        #expect(failure == said)
        let (other, _) = await self.failure(callers(passes: true))
        #expect(other?.code == .upstreamUnroutable, "what is no failure of the other service stays as it is")
    }

    @Test("has a code for each way in which a call ends, none of which is the handler's own failure")
    func codes() {
        let errors: [RPCError] = [
            .unroutable(destination: "a"), .noReceiver(destination: "a"), .timeout(requestMayHaveBeenDelivered: true),
            .cancelled(requestMayHaveBeenDelivered: false), .connectionLost(requestMayHaveBeenDelivered: true),
            .replyQueueLost, .overloaded(limit: 1), .blocked(why: "alarm"), .notConnected(why: "secret"),
            .rejectedByBroker, .accessRefused("secret"), .invalidRequest("secret"), .undecodableReply("secret"),
            .unexpectedContentType("secret", expected: "a"), .remote(RPCFailure(code: "b", message: "secret")),
        ]
        for error in errors {
            let failure = error.rpcFailure
            #expect(failure.code.rawValue.hasPrefix("upstream_"))
            #expect(failure.requestMayHaveBeenProcessed == error.requestMayHaveBeenProcessed)
            #expect(!failure.message.contains("secret"))
        }
    }

    @Test("may be an error of the service's own that says what its caller learns")
    func convertible() async {
        let (failure, _) = await failure(callers(), "own")
        #expect(failure == OutOfStock(left: 2).rpcFailure)
    }
}

import RPCWire
import Supervision
import Testing

@testable import RPCCaller

@Suite("What an error says of its request")
struct RPCErrorTests {
    @Test("it may have been processed, or not, as each case says")
    func truth() {
        let mayHave: [RPCError] = [
            .timeout(requestMayHaveBeenDelivered: true), .cancelled(requestMayHaveBeenDelivered: true),
            .connectionLost(requestMayHaveBeenDelivered: true), .replyQueueLost,
            .callerRestarted(.killed, requestMayHaveBeenDelivered: true), .undecodableReply(""),
            .remote(RPCFailure(code: .internalError, message: "")),
            .remote(RPCFailure(code: .handlerTimeout, message: "")), .remote(RPCFailure(code: "mine", message: "")),
        ]
        #expect(mayHave.allSatisfy { $0.requestMayHaveBeenProcessed })
        let hasNot: [RPCError] = [
            .timeout(requestMayHaveBeenDelivered: false), .cancelled(requestMayHaveBeenDelivered: false),
            .connectionLost(requestMayHaveBeenDelivered: false),
            .callerRestarted(.killed, requestMayHaveBeenDelivered: false), .unroutable(destination: "a"),
            .overloaded(limit: 1), .blocked(why: ""), .notConnected(why: ""), .rejectedByBroker, .invalidRequest(""),
            .remote(RPCFailure(code: .overloaded, message: "")),
            .remote(RPCFailure(code: .unknownProcedure, message: "")),
            .remote(RPCFailure(code: .undecodableRequest, message: "")),
        ]
        #expect(!hasNot.contains { $0.requestMayHaveBeenProcessed })
    }

    @Test("after an attempt whose outcome is not known no error says that nothing was processed")
    func doubt() {
        for doubt in [PendingTable<PendingCall>.Doubt.connectionLost, .repliesLost] {
            #expect(RPCError.unroutable(destination: "a").after(doubt).requestMayHaveBeenProcessed)
            #expect(RPCError.rejectedByBroker.after(doubt).requestMayHaveBeenProcessed)
        }
        guard case .unroutable = RPCError.unroutable(destination: "a").after(nil) else {
            Issue.record("changed without a doubt")
            return
        }
        let late = RPCError.timeout(requestMayHaveBeenDelivered: true).after(.repliesLost)
        guard case .timeout(requestMayHaveBeenDelivered: true) = late else {
            Issue.record("\(late) hides that the time was over")
            return
        }
    }

    @Test(
        "how long a retry waits is between nothing and its backoff's maximum, and it is sent no more often than allowed"
    )
    func retries() {
        let backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(40))
        let retry = RPCRetry.idempotent(attempts: 4, backoff: backoff)
        for attempts in 0..<10 {
            #expect(.zero...Duration.milliseconds(40) ~= retry.delay(after: attempts))
        }
        #expect(retry.retries == 3)
        #expect(retry.limited(toRetries: 1).retries == 1)
        #expect(RPCRetry.never.retries == 0)
        #expect(RPCRetry.never.limited(toRetries: 5).retries == 0)
        for attempts in [0, -1, 1, .min] { #expect(RPCRetry.idempotent(attempts: attempts).retries == 0) }
        #expect(RPCRetry.idempotent(attempts: .max).retries == Int(Int16.max))
        let wrong = Backoff(minimum: .seconds(-1), maximum: .seconds(-1))
        #expect(RPCRetry.idempotent(attempts: 2, backoff: wrong).delay(after: 1) >= .zero)
    }
}

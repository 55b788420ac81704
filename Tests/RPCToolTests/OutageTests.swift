#if os(Linux)
import BrokerSupport
import Foundation
import LocalBroker
import Testing

@Suite("rpc serve and rpc call, when the broker goes", .serialized)
struct OutageTests {
    @Test("both go on when it is back, and say what happened meanwhile")
    func killed() async throws {
        try await TestBroker.own { broker in
            try await whileServing(url: broker.url) { server in
                let arguments = ["add", "[4, 9]", "--repeat", "150", "--interval", "0.05", "--timeout", "1"]
                let calls = try RunningTool(["call", "math"] + arguments + ["--url", broker.url])
                defer { calls.signal(SIGKILL) }
                await calls.prints("13\n")
                try await broker.kill()
                await server.says("receiver has lost the broker")
                await calls.says("rpc: not connected: cannot connect to")
                await calls.says("--url or AMQP_URL names another broker")
                try await broker.startAgain()
                await server.says("serving \"math\"", times: 2)
                let ending = await calls.ending()
                // The first that failed was in flight, or found no connection.
                #expect([2, 5].contains(ending.code), "\(ending)")
                #expect(ending.output.hasSuffix("13\n"), "\(ending)")
                #expect(ending.error.contains(" of 150 calls were answered"), "\(ending)")
                #expect(!ending.error.contains("guest:guest"), "\(ending)")
            }
        }
    }

    @Test("--repeat calls as often as it says, and ends as the first call that failed")
    func repeated() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileServing(url: url) { _ in
                let all = try await rpc("call", "math", "add", "[1]", "--repeat", "3", "--interval", "0", "--url", url)
                #expect(all.code == 0, "\(all)")
                #expect(all.output == "1\n1\n1\n")
                #expect(all.error == "rpc: 3 of 3 calls were answered\n")
                let none = try await rpc("call", "none", "add", "[1]", "--repeat", "2", "--interval", "0", "--url", url)
                #expect(none.code == 3, "\(none)")
                #expect(none.error.contains("rpc: 0 of 2 calls were answered\n"))
                // What to do is said once.
                #expect(none.error.components(separatedBy: "rpc serve none would").count == 2, "\(none)")
            }
        }
    }
}
#endif

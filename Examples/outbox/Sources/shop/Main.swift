import AMQPPool
import Foundation
import Outbox
import Supervision

/// `shop URL DATABASE COUNT`: accepts COUNT orders, one after another, and ends when all are shipped. It may be killed at any moment and
/// run again.
@main
struct Main {
    static func main() async throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 4, let count = Int(arguments[3]) else {
            print("usage: shop URL DATABASE COUNT")
            return
        }
        let shop = try await Shop(arguments[2])
        let tree = shop.tree(on: AMQPPool(endpoints: [try Endpoint(url: arguments[1])]))
        try await tree.start()
        for _ in 0..<count { say("order \(try await shop.takeOrder())") }
        say(try await shop.waitUntilShipped(atMost: .seconds(60)) ? "shipped" : "not everything was shipped in time")
        await tree.stop()
    }
}

/// Prints immediately, even into a pipe.
private func say(_ line: String) {
    try? FileHandle.standardOutput.write(contentsOf: Data((line + "\n").utf8))
}

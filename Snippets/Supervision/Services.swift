//! ServiceLifecycle in both directions: a failing service restarted with backoff, inside an unchanged service group.

import Logging
import ServiceLifecycle
import Supervision

// snippet.service
/// The original service: it fails now and then, and takes the whole group down.
struct PriceFeed: Service {
    func run() async throws {
        try await cancelWhenGracefulShutdown {
            try await Task.sleep(for: .milliseconds(200))
            throw FeedLost()
        }
    }
}

struct FeedLost: Error {}
// snippet.end

struct HTTPServer: Service {
    func run() async throws { try await gracefulShutdown() }
}

// snippet.supervised
let feeds = Supervisor("feeds", intensity: .init(10, within: .seconds(60)), whenExceeded: .cooldown(.seconds(30))) {
    Child("prices", options: ChildOptions(backoff: Backoff(minimum: .milliseconds(100), maximum: .seconds(5)))) { _ in
        PriceFeed()
    }
}
// snippet.end

// snippet.group
let group = ServiceGroup(
    services: [HTTPServer(), feeds],
    gracefulShutdownSignals: [.sigterm, .sigint],
    logger: Logger(label: "app")
)
// snippet.end

// snippet.hide
try await withThrowingTaskGroup(of: Void.self) { tasks in
    tasks.addTask { try await group.run() }
    try await Task.sleep(for: .seconds(2))
    print(feeds.tree())
    await group.triggerGracefulShutdown()
    try await tasks.waitForAll()
}
// snippet.show

//! Strategies, restart types, intensity, backoff, cooldown and significant children.

import Supervision

actor Connection { func subscribe() {} }
actor Subscription {
    init(_ connection: ChildReference<Connection>) {}
}
actor Cache {}
actor Index {}
actor Import: Worker { func run() async throws {} }
actor Poller: Worker { func run() async throws {} }

// snippet.strategies
let app = Supervisor("app", strategy: .oneForOne) {
    Supervisor("feed", strategy: .restForOne) {
        Child("connection") { _ in Connection() }
        Child("subscription") { context in Subscription(context.reference("connection")) }
    }
    Supervisor("search", strategy: .oneForAll) {
        Child("cache") { _ in Cache() }
        Child("index") { _ in Index() }
    }
}
// snippet.end

// snippet.restart
let jobs = Supervisor("jobs") {
    Child("poller", restart: .permanent) { _ in Poller() }
    Child("import", restart: .transient) { _ in Import() }
    Child("warm-up", restart: .temporary) { _ in Import() }
}
// snippet.end

// snippet.intensity
let strict = Supervisor("app", intensity: .init(3, within: .seconds(5))) {
    Child("poller") { _ in Poller() }
}
// snippet.end

// snippet.backoff
let backoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(5), jitter: 0.5, resetAfter: .seconds(30))
let patient = Supervisor("feeds", intensity: .init(10, within: .seconds(60)), whenExceeded: .cooldown(.seconds(30))) {
    Child("poller", options: ChildOptions(backoff: backoff)) { _ in Poller() }
}
// snippet.end

// snippet.significant
let batch = Supervisor("batch", autoShutdown: .anySignificant) {
    Child("cache") { _ in Cache() }
    Child("import", restart: .transient, options: ChildOptions(significant: true)) { _ in Import() }
}
try await batch.run()
// snippet.end
